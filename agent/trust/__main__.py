"""Entry point of the verifier child: ``python -m agent.trust --fd N``."""

import argparse
import importlib
import logging
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType

from agent.protocol.errors import ProtocolError
from agent.trust import sandbox


def main() -> int:
    """Serve one request on the inherited descriptor; 0 when it was answered."""
    parser = argparse.ArgumentParser(prog="agent.trust", description="Verify metadata for the supervisor.")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of a connected stream socket")
    descriptor: int = parser.parse_args().fd
    serve = load()
    logging.basicConfig(level=logging.WARNING, format="verifier: %(levelname)s %(name)s: %(message)s")
    sandbox.enter(keep=descriptor)
    try:
        with socket.socket(fileno=descriptor) as connection:
            serve(connection)
    except (EOFError, OSError, ProtocolError) as error:
        logging.getLogger(__name__).warning("not answered: %s", error)
        return 1
    return 0


def load() -> Callable[[socket.socket], None]:
    """Everything that a check needs, also what libraries load at first use: the sandbox has no room for it later.

    Without the HTTP client that tuf imports for everyone: it was a quarter of the time to start, and has no use here.
    """
    stub = ModuleType("tuf.ngclient.urllib3_fetcher")
    stub.__dict__["Urllib3Fetcher"] = type("Urllib3Fetcher", (), {})
    sys.modules[stub.__name__] = stub
    importlib.import_module("tuf.api.serialization.json")
    datetime.strptime("1970-01-01T00:00:00Z", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    from agent.trust.child import serve  # noqa: PLC0415 - not before the stub

    return serve


if __name__ == "__main__":
    sys.exit(main())
