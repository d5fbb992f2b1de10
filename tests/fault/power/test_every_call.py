"""Power is cut, or the disk refuses, at every call that an update makes to the disk: strace does it, nobody plays it.

By default power is cut at one call of each kind, place and state of the update; `make soak` takes every one.
"""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from agent.protocol.state import Phase
from tests.fault.power.device import (
    STRACE,
    Call,
    Forge,
    examine,
    fresh_copies,
    go_on,
    one_of_each_place,
    recorded_calls,
)
from tests.fault.power.update import Order
from tests.support.counts import count

pytestmark = pytest.mark.skipif(
    STRACE is None, reason="MISSING TOOL: strace (apt install strace); no power cut in mid-update is tested"
)
CALLS = "fsync,fdatasync,rename,renameat2,link,unlink,write,pwrite64,ftruncate,mkdir,chmod,fchmod"
REFUSABLE = {"fsync", "fdatasync", "rename", "link", "write", "pwrite64", "ftruncate", "mkdir"}
"""What a full or a failing disk refuses."""
PATIENCE = 0.4
"""Seconds that a device is left with a disk that refuses everything from one call on."""
HARMS = ["KILL", "ENOSPC", "EIO", "ENOSPC for ever", "EIO for ever"]


@pytest.fixture(scope="module")
def calls(
    forge: Forge, committed_1: Path, releases: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Call]:
    """What one undisturbed update calls."""
    folder = tmp_path_factory.mktemp("undisturbed") / "state"
    shutil.copytree(committed_1, folder)
    log = folder.with_name("log")
    order = Order(folder=str(folder), releases=str(releases), release=2)
    assert forge.run_traced(order, "-e", f"trace={CALLS}", log=log) == 0
    assert examine(folder, go_on(folder, releases)) is Phase.COMMITTED
    return recorded_calls(log, folder)


def option(call: Call, harm: str) -> str:
    """The injection of ``harm`` at ``call``."""
    if harm == "KILL":
        return f"inject={call.name}:signal=KILL:when={call.number}"
    error, _, for_ever = harm.partition(" ")
    return f"inject={call.name}:error={error}:when={call.number}{'+' if for_ever else ''}"


def sweep(
    points: list[Call], harm: str, forge: Forge, template: Path, releases: Path, folder: Path
) -> Counter[Phase]:
    """Do ``harm`` at each point to a fresh copy, start it again, look at it; how they ended."""
    ended: Counter[Phase] = Counter()
    for call, copy in zip(points, fresh_copies(template, folder), strict=False):
        order = Order(folder=str(copy), releases=str(releases), release=2)
        options = ("-e", f"trace={call.name}", "-e", option(call, harm))
        status = forge.run_traced(
            order, *options, log=folder / "log", patience=PATIENCE if "ever" in harm else None
        )
        if harm == "KILL":
            assert status == -9, f"{call}: it was not reached"
        else:
            assert status in ({0, -9} if "ever" in harm else {0}), f"{call}: the device broke"
        try:
            ended[examine(copy, go_on(copy, releases))] += 1
        except BaseException as error:
            error.add_note(f"after {harm} at {call}")
            raise
    return ended


@pytest.mark.parametrize("harm", HARMS)
def test_at_each_place(
    harm: str,
    calls: list[Call],
    forge: Forge,
    committed_1: Path,
    releases: Path,
    memory_folder: Path,
    request: pytest.FixtureRequest,
) -> None:
    points = one_of_each_place(calls)
    if harm != "KILL":
        points = [call for call in points if call.name in REFUSABLE][:: 3 if harm == "ENOSPC" else 7]
    check(points, harm, forge, committed_1, releases, memory_folder, request)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("harm", HARMS)
def test_at_every_call(
    harm: str,
    calls: list[Call],
    forge: Forge,
    committed_1: Path,
    releases: Path,
    memory_folder: Path,
    request: pytest.FixtureRequest,
) -> None:
    points = calls if harm == "KILL" else [call for call in calls if call.name in REFUSABLE]
    check(points, harm, forge, committed_1, releases, memory_folder, request)


def check(
    points: list[Call],
    harm: str,
    forge: Forge,
    committed_1: Path,
    releases: Path,
    memory_folder: Path,
    request: pytest.FixtureRequest,
) -> None:
    ended = sweep(points, harm, forge, committed_1, releases, memory_folder)
    count(
        request,
        f"crash sweep of an update's calls, {harm}",
        points=len(points),
        committed=ended[Phase.COMMITTED],
        rolled_back=ended[Phase.ROLLED_BACK],
        refused=ended[Phase.REFUSED],
        with_the_active_release_whole=ended.total(),
    )
    assert ended.total() == len(points)
    if harm == "KILL":
        assert ended[Phase.COMMITTED], "what had been decided holds"
        assert ended[Phase.ROLLED_BACK], "what had not is undone"
        assert not ended[Phase.REFUSED]
