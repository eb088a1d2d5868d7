"""Connects to an MCP server as each rendered config says, with the `mcp` package.

Reads one line of JSON, a list of `{"target", "document", "call"}`, and writes one: a list of what the
server said of itself, or what its tool answered where it is to be called, or `{"error"}`. The document is
used as a client of the target would: by its own names.
"""

import asyncio
import json
import ssl
import sys
import urllib.parse

import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

AT_ONCE = 8
# Made once: it is what takes longest about a client.
TLS = ssl.create_default_context()


def connection(target, text):
    """The URL and the headers of a config."""
    config = json.loads(text)
    if target == "mcp-json":
        (server,) = config["mcpServers"].values()
        assert server["type"] == "http"
        return server["url"], server["headers"]
    if target == "vscode":
        (server,) = config["servers"].values()
        assert server["type"] == "http"
        return server["url"], server["headers"]
    if target == "livekit":
        assert config["transport_type"] == "streamable_http"
        return config["url"], config["headers"]
    if target == "openai":
        return config["server_url"], config["headers"]
    if target == "retell":
        # A platform encodes the query itself.
        query = urllib.parse.urlencode(config["query_params"], quote_via=urllib.parse.quote)
        return f"{config['url']}?{query}", config["headers"]
    if target == "elevenlabs":
        return config["url"], config["request_headers"]
    if target == "vapi":
        return config["server"]["url"], config["server"]["headers"]
    raise ValueError(target)


async def connect(url, headers, call):
    async with httpx2.AsyncClient(headers=headers, timeout=20, verify=TLS) as http:
        async with streamable_http_client(url, http_client=http, terminate_on_close=False) as streams:
            async with ClientSession(streams[0], streams[1]) as session:
                initialized = await session.initialize()
                if not call:
                    return initialized.server_info.name
                result = await session.call_tool("check_availability", {})
                return result.content[0].text


async def attempt(limit, entry):
    async with limit:
        try:
            return await connect(*connection(entry["target"], entry["document"]), entry["call"])
        except BaseException as error:  # a group of errors, in which the cause is deep down
            return {"error": f"{type(error).__name__}: {error}"}


async def main():
    entries = json.loads(sys.stdin.readline())
    limit = asyncio.Semaphore(AT_ONCE)
    answers = await asyncio.gather(*(attempt(limit, entry) for entry in entries))
    print(json.dumps(answers))


asyncio.run(main())
