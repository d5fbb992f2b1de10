"""``python -m agent.front --control-fd N``: the device's one inference address, started by the supervisor."""

import argparse
import logging
import signal
import sys

import uvloop

from agent.front.process import run
from agent.orphan import die_with_parent


def main(arguments: list[str] | None = None) -> int:
    """Run until the supervisor is gone."""
    parser = argparse.ArgumentParser(prog="python -m agent.front", description=__doc__)
    parser.add_argument(
        "--control-fd", type=int, required=True, help="descriptor of the control channel's socket"
    )
    options = parser.parse_args(arguments)
    if not die_with_parent(options.control_fd):
        return 0
    # Ctrl-C on a terminal reaches the whole process group; the supervisor decides when this process goes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    return uvloop.run(run(options.control_fd))


if __name__ == "__main__":
    sys.exit(main())
