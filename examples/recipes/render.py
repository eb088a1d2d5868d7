"""Renders a config at an agent's start: python3 render.py FEATURE/NAME"""

import http.client
import os
import socket
import sys


class Guillemet(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("guillemet")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def render(template):
    path = os.environ.get("GUILLEMET_SOCKET") or os.path.join(os.environ["GUILLEMET_HOME"], "run", "guillemet.sock")
    connection = Guillemet(path)
    connection.request("GET", f"/v1/render/{template}")
    answer = connection.getresponse()
    body = answer.read().decode()
    if answer.status != 200:
        raise SystemExit(body)
    return body


if __name__ == "__main__":
    print(render(sys.argv[1]), end="")
