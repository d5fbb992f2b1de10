"""Let a process run only on what is left of the processors, in a way that can be taken back.

A candidate that is compared on live traffic must not slow down what serves, and must be at full speed when it takes over.
``nice`` can't do that for an agent without privileges: raising is free, lowering again needs CAP_SYS_NICE or a limit that
allows it (setpriority(2)). So the scheduling policy is changed (sched(7)): ``SCHED_IDLE`` where going back is allowed, which
the packaged service grants (``LimitNICE``), else ``SCHED_BATCH``, which gives way when something wakes up and is always
allowed back.
"""

import contextlib
import logging
import os
import resource
from collections.abc import Iterator
from pathlib import Path

_log = logging.getLogger(__name__)

_CAP_SYS_NICE = 23
_HIGHEST = 20
"""``RLIMIT_NICE`` counts from 20 downwards: a limit of n allows niceness 20 - n."""


@contextlib.contextmanager
def lowered(pid: int) -> Iterator[str]:
    """Lower every thread of a process of this user, and raise it again at the end.

    Gives ``idle``, ``batch``, or ``unchanged`` where the system refuses. Threads that start meanwhile inherit it.
    """
    policy = os.SCHED_IDLE if can_be_undone(pid) else os.SCHED_BATCH
    before = _policy(pid)
    changed = before == os.SCHED_OTHER and _set(pid, policy)
    try:
        if not changed:
            yield "unchanged"
        else:
            yield "idle" if policy == os.SCHED_IDLE else "batch"
    finally:
        if changed:
            _set(pid, os.SCHED_OTHER)


def can_be_undone(pid: int) -> bool:
    """Whether this process may take ``pid`` back from ``SCHED_IDLE``."""
    if _has_capability(_CAP_SYS_NICE):
        return True
    try:
        limit, _ = resource.prlimit(pid, resource.RLIMIT_NICE)
        nice = os.getpriority(os.PRIO_PROCESS, pid)
    except OSError:
        return False
    return limit == resource.RLIM_INFINITY or limit >= _HIGHEST - nice


def _has_capability(number: int) -> bool:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return False
    mask = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(mask, 16) >> number & 1)


def _policy(pid: int) -> int | None:
    try:
        return os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
    except OSError:
        return None


def _set(pid: int, policy: int) -> bool:
    """For every thread; a second look finds those that were started during the first one."""
    done: set[int] = set()
    for _ in range(2):
        try:
            threads = {int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()} - done
        except OSError:
            return False  # the process is gone
        for thread in threads:
            try:
                os.sched_setscheduler(thread, policy, os.sched_param(0))
            except ProcessLookupError:
                continue
            except OSError as error:
                _log.warning("a runner's priority stays", extra={"pid": pid, "error": str(error)})
                return False
            done.add(thread)
    return bool(done)
