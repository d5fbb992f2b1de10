import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent.supervisor.memory import MemoryWatch, ProcessGoneError, limit_data, pss_mib, rss_mib, status_mib

_CHILD = """
import sys
held = []
for line in sys.stdin:
    word, mib = line.split()
    if word == "hold":
        held.append(b"x" * (int(mib) << 20))
    elif word == "spike":
        b"x" * (int(mib) << 20)
    elif word == "try":
        try:
            held.append(b"x" * (int(mib) << 20))
        except MemoryError:
            print("refused", flush=True)
            continue
    print("done", flush=True)
"""


class Hungry:
    """A process that takes memory when it is told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self.process.pid

    def tell(self, word: str, mib: int) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word} {mib}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def hungry() -> Iterator[Hungry]:
    hungry = Hungry()
    hungry.tell("hold", 1)
    yield hungry
    hungry.end()


def test_pss_never_exceeds_rss() -> None:
    pss, rss = pss_mib(os.getpid()), rss_mib(os.getpid())
    assert 5 < pss <= rss + 1


def test_pss_follows_what_a_process_holds(hungry: Hungry) -> None:
    before = pss_mib(hungry.pid)
    hungry.tell("hold", 50)
    assert pss_mib(hungry.pid) - before == pytest.approx(50, abs=2)


def test_a_spike_that_nobody_looked_at_is_in_the_peak(hungry: Hungry) -> None:
    watch = MemoryWatch(hungry.pid)
    watch.look()
    before = watch.peak_mib()
    hungry.tell("spike", 80)
    assert pss_mib(hungry.pid) < before + 10
    assert watch.peak_mib() - before == pytest.approx(80, abs=4)


async def test_over_the_limit_is_told_once_with_the_figures(hungry: Hungry) -> None:
    told: list[tuple[float, float]] = []
    watch = MemoryWatch(hungry.pid, limit_mib=60.0, over=lambda pss, limit: told.append((pss, limit)))
    running = asyncio.create_task(watch.run())
    with watch.closely():
        await asyncio.to_thread(hungry.tell, "hold", 30)
        assert not told
        await asyncio.to_thread(hungry.tell, "hold", 50)
        async with asyncio.timeout(5):
            await running
    assert len(told) == 1
    assert told[0][0] > 60.0
    assert told[0][1] == 60.0


async def test_a_watch_ends_with_its_process(hungry: Hungry) -> None:
    running = asyncio.create_task(MemoryWatch(hungry.pid).run())
    hungry.end()
    async with asyncio.timeout(5):
        await running


def test_data_can_grow_by_its_headroom_and_no_further(hungry: Hungry) -> None:
    limit_data(hungry.pid, 40.0)
    assert hungry.tell("try", 20) == "done"
    assert hungry.tell("try", 60) == "refused"
    assert hungry.tell("try", 5) == "done"


def test_a_process_that_is_gone_is_said_to_be(hungry: Hungry) -> None:
    hungry.end()
    for measure in (
        pss_mib,
        rss_mib,
        lambda pid: status_mib(pid, "VmData"),
        lambda pid: limit_data(pid, 1.0),
    ):
        with pytest.raises(ProcessGoneError):
            measure(hungry.pid)


def test_a_zombie_counts_as_gone(hungry: Hungry) -> None:
    hungry.process.kill()
    os.waitid(os.P_PID, hungry.pid, os.WEXITED | os.WNOWAIT)
    for measure in (rss_mib, lambda pid: status_mib(pid, "VmHWM")):
        with pytest.raises(ProcessGoneError):
            measure(hungry.pid)


def looks_often(watch: MemoryWatch) -> bool:
    return watch.fast


def test_it_looks_often_only_near_the_limit_at_work_or_where_it_is_asked_to(hungry: Hungry) -> None:
    now = pss_mib(hungry.pid)
    far, near = MemoryWatch(hungry.pid, limit_mib=now * 4), MemoryWatch(hungry.pid, limit_mib=now * 1.05)
    for watch in (far, near):
        assert not watch.look()
    assert (far.fast, near.fast) == (False, True)
    with far.closely():
        assert looks_often(far)
    assert not looks_often(far)
    far.stir()
    assert looks_often(far)


def test_where_the_kernel_keeps_the_limit_too_only_a_probe_is_looked_at_often(hungry: Hungry) -> None:
    watch = MemoryWatch(hungry.pid, limit_mib=pss_mib(hungry.pid) * 1.05, bounded=True)
    watch.look()
    watch.stir()
    assert not looks_often(watch)
    with watch.closely():
        assert looks_often(watch)


def test_a_process_that_grows_is_looked_at_often_before_it_is_over(hungry: Hungry) -> None:
    watch = MemoryWatch(hungry.pid, limit_mib=pss_mib(hungry.pid) + 60)
    assert not watch.look()
    assert not looks_often(watch)
    hungry.tell("hold", 55)
    assert not watch.look()
    assert looks_often(watch)
    hungry.tell("hold", 20)
    assert watch.look()
