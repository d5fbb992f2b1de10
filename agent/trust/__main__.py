"""Entry point of the verifier child: ``python -m agent.trust --fd N``."""

import argparse
import logging
import socket
import sys
from types import ModuleType

from agent.protocol.errors import ProtocolError
from agent.trust import sandbox


def main() -> int:
    """Serve one request on the inherited descriptor; 0 when it was answered."""
    parser = argparse.ArgumentParser(prog="agent.trust", description="Verify metadata for the supervisor.")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of a connected stream socket")
    descriptor: int = parser.parse_args().fd
    leave_http_out()
    from agent.trust.child import serve  # noqa: PLC0415 - not before the line above

    logging.basicConfig(level=logging.WARNING, format="verifier: %(levelname)s %(name)s: %(message)s")
    sandbox.enter(keep=descriptor)
    try:
        with socket.socket(fileno=descriptor) as connection:
            serve(connection)
    except (EOFError, OSError, ProtocolError) as error:
        logging.getLogger(__name__).warning("not answered: %s", error)
        return 1
    return 0


def leave_http_out() -> None:
    """A quarter of the time to start went into an HTTP client that this process could not use (tuf imports it for everyone)."""
    stub = ModuleType("tuf.ngclient.urllib3_fetcher")
    stub.__dict__["Urllib3Fetcher"] = type("Urllib3Fetcher", (), {})
    sys.modules[stub.__name__] = stub


if __name__ == "__main__":
    sys.exit(main())
