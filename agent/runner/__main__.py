"""``python -m agent.runner --control-fd N``: one inference process, started by the supervisor."""

import argparse
import ctypes
import logging
import os
import select
import signal
import sys

import uvloop

from agent.runner.process import run

_PR_SET_PDEATHSIG = 1
"""prctl(2), from <linux/prctl.h>."""


def main(arguments: list[str] | None = None) -> int:
    """Run until the supervisor says stop or is gone."""
    parser = argparse.ArgumentParser(prog="python -m agent.runner", description=__doc__)
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


def die_with_parent(control_fd: int) -> bool:
    """Have the kernel end this process when the thread that started it ends; false if that has happened already.

    A closed control channel tells the same, but only to a loop that runs: a model stuck in native code would stay. A
    parent that died before the kernel was asked has closed its end of the channel before it was gone, so to look at the
    channel afterwards leaves no gap.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    poll = select.poll()
    poll.register(control_fd, 0)
    return not poll.poll(0)  # POLLHUP is told without being asked for


if __name__ == "__main__":
    sys.exit(main())
