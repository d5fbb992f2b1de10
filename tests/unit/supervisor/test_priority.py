"""Lowering and raising again, as root and as a user without privileges; the system decides, so the system is asked."""

import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.supervisor.priority import can_be_undone, lowered

NOBODY = 65534


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a second thread."""
    code = "import threading,sys; threading.Thread(target=sys.stdin.read).start(); print('up',flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
        process.kill()


def _policies(pid: int) -> set[int]:
    return {os.sched_getscheduler(thread) for thread in _threads(pid)}


def _threads(pid: int) -> list[int]:
    return [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]


def test_every_thread_is_lowered_and_raised_again(busy: subprocess.Popen[bytes]) -> None:
    assert len(_threads(busy.pid)) == 2
    wanted = os.SCHED_IDLE if can_be_undone(busy.pid) else os.SCHED_BATCH
    with lowered(busy.pid) as how:
        assert _policies(busy.pid) == {wanted}
        assert how == ("idle" if wanted == os.SCHED_IDLE else "batch")
    assert _policies(busy.pid) == {os.SCHED_OTHER}


def test_it_is_raised_again_after_an_error(busy: subprocess.Popen[bytes]) -> None:
    with pytest.raises(KeyError), lowered(busy.pid):
        raise KeyError
    assert _policies(busy.pid) == {os.SCHED_OTHER}


def test_a_process_that_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with lowered(process.pid) as how:
        assert how == "unchanged"


_UNPRIVILEGED = textwrap.dedent(
    """
    import os, subprocess, sys
    from agent.supervisor.priority import can_be_undone, lowered
    os.setgid({uid}); os.setuid({uid})
    child = subprocess.Popen(["sleep", "30"])
    with lowered(child.pid) as how:
        during = os.sched_getscheduler(child.pid)
    print(can_be_undone(child.pid), how, during, os.sched_getscheduler(child.pid))
    child.kill(); child.wait()
    """
)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user without privileges")
def test_without_privileges_it_is_lowered_only_as_far_as_it_can_be_raised_again() -> None:
    def told() -> list[str]:
        code = _UNPRIVILEGED.format(uid=NOBODY)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.split()

    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    if soft >= 20:
        assert told() == ["True", "idle", str(os.SCHED_IDLE), str(os.SCHED_OTHER)]
    else:
        assert told() == ["False", "batch", str(os.SCHED_BATCH), str(os.SCHED_OTHER)]


@pytest.mark.skipif(
    os.geteuid() != 0 or resource.getrlimit(resource.RLIMIT_NICE)[1] < 20,
    reason="needs root and a hard RLIMIT_NICE of 20 or more (systemd: LimitNICE=+0), which this machine does not grant",
)
def test_with_the_packaged_service_s_limit_a_user_without_privileges_gets_idle() -> None:
    code = "import resource\nresource.setrlimit(resource.RLIMIT_NICE, (20, 20))\n" + _UNPRIVILEGED
    done = subprocess.run(
        [sys.executable, "-c", code.format(uid=NOBODY)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "idle", str(os.SCHED_IDLE), str(os.SCHED_OTHER)]
