"""Makes the request of each rendered action (`custom-action`, target `json`), and signs it where it says so.

Reads one line of JSON, a list of the texts of configs, and writes one: the status of each answer. It is
written from the schema of the feature alone, as a client of somebody else would be.
"""

import base64
import hashlib
import hmac
import http.client
import json
import re
import sys
import time
import urllib.parse


def signature(signing, method, path, body, now):
    """What the schema says of `signing`: the payload, filled in at one go, under the key."""
    parts = {"timestamp": now.encode(), "method": method.encode(), "path": path.encode(), "body": body}
    payload = re.sub(
        rb"\{(timestamp|method|path|body)\}",
        lambda found: parts[found.group(1).decode()],
        signing["payload"].encode(),
    )
    digest = hmac.new(signing["key"].encode(), payload, getattr(hashlib, signing["algorithm"])).digest()
    return digest.hex() if signing["encoding"] == "hex" else base64.b64encode(digest).decode()


def send(action):
    url = urllib.parse.urlsplit(action["url"])
    query = urllib.parse.urlencode(action.get("query", {}), quote_via=urllib.parse.quote, safe="")
    query = "&".join(part for part in (url.query, query) if part)
    path = (url.path or "/") + (f"?{query}" if query else "")
    headers = dict(action.get("headers", {}))
    body = json.dumps(action["body"]).encode() if "body" in action else b""
    signing = action.get("signing")
    if signing:
        now = str(int(time.time()))
        if "timestamp_header" in signing:
            headers[signing["timestamp_header"]] = now
        headers[signing["signature_header"]] = signature(signing, action["method"], path, body, now)
    connection = http.client.HTTPConnection(url.netloc, timeout=action.get("timeout_ms", 20000) / 1000)
    connection.request(action["method"], path, body or None, headers)
    status = connection.getresponse().status
    connection.close()
    return status


print(json.dumps([send(json.loads(text)) for text in json.loads(sys.stdin.readline())]))
