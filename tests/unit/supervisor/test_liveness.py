import asyncio

import pytest

from agent.protocol.state import Reason
from agent.supervisor.liveness import Liveness


def _watch(limit: float, told: list[Reason], *, excused: bool = False) -> Liveness:
    return Liveness(limit, excused=lambda: excused, stuck=told.append)


async def test_silence_is_told_once() -> None:
    told: list[Reason] = []
    async with asyncio.timeout(10):
        await _watch(0.5, told).run()
    assert [reason.code for reason in told] == ["runner-stuck"]
    assert "at most 0.5 s are allowed" in told[0].text


async def test_a_run_that_takes_too_long_is_told_however_talkative_the_runner_is() -> None:
    told: list[Reason] = []
    watch = _watch(30.0, told)
    watch.heard(30.5)
    async with asyncio.timeout(10):
        await watch.run()
    assert "under way for 30.5 s" in told[0].text


@pytest.mark.parametrize("reason", ["excused", "talking"])
async def test_one_that_is_excused_or_talks_is_not_stuck(reason: str) -> None:
    told: list[Reason] = []
    watch = _watch(0.5, told, excused=reason == "excused")
    watch.heard(0.5)
    watch.heard()  # a message that says nothing of runs leaves what was said of them
    running = asyncio.create_task(watch.run())
    for _ in range(20):
        await asyncio.sleep(0.1)
        if reason == "talking":
            watch.heard(0.0)
    assert not running.done()
    running.cancel()
    assert told == []
