"""Renders a config at an agent's start: python3 render.py FEATURE/NAME

GUILLEMET_SOCKET says where the daemon answers: export GUILLEMET_SOCKET="$(guillemet paths socket)"
"""

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
    connection = Guillemet(os.environ["GUILLEMET_SOCKET"])
    connection.request("GET", f"/v1/render/{template}")
    answer = connection.getresponse()
    body = answer.read().decode()
    if answer.status != 200:
        raise SystemExit(body)
    return body


if __name__ == "__main__":
    print(render(sys.argv[1]), end="")
