"""The floor: an HTTP server that does nothing but answer, with one constant, whatever is posted.

It parses with httptools on uvloop like the runner, so what lies between the two is what the runner does.
"""

import argparse
import asyncio
from typing import cast

import httptools
import uvloop


class Echo(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer."""
        if self._transport is not None:
            self._transport.write(self._answer)


async def serve(port: int, json_length: int, body: bytes) -> None:
    """Answer until the process is ended."""
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {json_length}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = head.encode() + body
    server = await asyncio.get_running_loop().create_server(lambda: Echo(answer), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve one answer."""
    parser = argparse.ArgumentParser(prog="python -m hw_bench.serving.echo_server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--json-length", type=int, required=True, metavar="BYTES")
    parser.add_argument("--body", type=bytes.fromhex, required=True, metavar="HEX")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.json_length, options.body))


if __name__ == "__main__":
    main()
