"""What the verifier gives up before it reads the first untrusted byte.

It has no use for the network, for other files of the parent, for new privileges or for much memory. What the kernel
does not permit (a network namespace without privileges) is done without: the limits below always hold.
"""

import contextlib
import ctypes
import os
import resource
from pathlib import Path

CPU_SECONDS = 20
EXTRA_MEMORY_BYTES = 256 * 1024 * 1024
FILE_BYTES = 8 * 1024 * 1024
OPEN_FILES = 64

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000


def enter(keep: int) -> None:
    """Restrict this process; call it after the imports, which need more than is left afterwards.

    Args:
        keep: the one descriptor, beside standard input, output and error, that stays open.
    """
    _close_all_but(keep)
    _leave_network()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    memory = _address_space_bytes() + EXTRA_MEMORY_BYTES
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _limit(resource.RLIMIT_CPU, CPU_SECONDS)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, FILE_BYTES)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_CORE, 0)


def _close_all_but(keep: int) -> None:
    os.closerange(3, keep)
    highest, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.closerange(keep + 1, min(highest, 65_536))


def _leave_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        # Refused without privileges; a user namespace of its own grants it where the kernel allows those.
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (lowered, lowered))
