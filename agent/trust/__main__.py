"""Entry point of the verifier child: ``python -m agent.trust --fd N``."""

import argparse
import logging
import socket
import sys

from agent.protocol.errors import ProtocolError
from agent.trust import sandbox
from agent.trust.child import serve


def main() -> int:
    """Serve one request on the inherited descriptor; 0 when it was answered."""
    parser = argparse.ArgumentParser(prog="agent.trust", description="Verify metadata for the supervisor.")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of a connected stream socket")
    descriptor: int = parser.parse_args().fd
    logging.basicConfig(level=logging.WARNING, format="verifier: %(levelname)s %(name)s: %(message)s")
    sandbox.enter(keep=descriptor)
    try:
        with socket.socket(fileno=descriptor) as connection:
            serve(connection)
    except (EOFError, OSError, ProtocolError) as error:
        logging.getLogger(__name__).warning("not answered: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
