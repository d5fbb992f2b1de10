"""``python -m agent.runner --control-fd N``: one inference process, started by the supervisor.

What is imported here, and what not, is weighed: see docs/decisions/0011-how-a-runner-starts.md.
"""

# ruff: noqa: E402 - the order of the imports is the point
import sys

# msgspec takes it where it is installed, and Python's own typing where it is not: 0.6 MiB and some milliseconds.
sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]  # "can't be imported", as import_module says it

import logging
import signal

import uvloop

from agent.orphan import die_with_parent
from agent.runner.process import run

_USAGE = "usage: python -m agent.runner --control-fd N\n"


def main(arguments: list[str]) -> int:
    """Run until the supervisor says stop or is gone; gives the exit status."""
    match arguments:
        case ["--control-fd", number] if number.isdecimal():
            control_fd = int(number)
        case _:  # argparse would cost 0.6 MiB
            sys.stderr.write(_USAGE)
            return 2
    if not die_with_parent(control_fd):
        return 0
    # Ctrl-C on a terminal reaches the whole process group; the supervisor decides when this process goes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    return uvloop.run(run(control_fd))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
