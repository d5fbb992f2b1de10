"""What a child process does so that it does not outlive the agent."""

import ctypes
import os
import select
import signal

_PR_SET_PDEATHSIG = 1
"""prctl(2), from <linux/prctl.h>."""


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
