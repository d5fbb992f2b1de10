"""Power cuts on a real ext4: what was not synced is gone, what the device said it had persisted is there."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.core.model_state import ModelState
from agent.protocol.state import Phase
from agent.store.artifacts import ArtifactStore
from agent.store.durable_file import create_durable, fsync_file, move_durable, write_durable
from agent.store.mirrored import MirroredStore
from tests.fault.power.device import STRACE, Call, Forge, examine, go_on, recorded_calls
from tests.fault.power.update import MODEL, Order
from tests.support.counts import count
from tests.support.ext4 import MISSING, Ext4

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"MISSING: {', '.join(MISSING)}; no power cut on a real file system is tested"
)
DECIDING = ("fsync", "fdatasync", "rename", "unlink")


@pytest.fixture(scope="module")
def ext4() -> Iterator[Ext4]:
    made = Ext4()
    yield made
    made.close()


@pytest.fixture
def disk(ext4: Ext4) -> Iterator[Path]:
    """An empty folder on it."""
    folder = ext4.path / "device"
    folder.mkdir()
    ext4.sync()
    yield folder
    shutil.rmtree(folder)


def test_the_switch_works_an_unsynced_rename_vanishes(ext4: Ext4, disk: Path) -> None:
    """Without this the tests below could not fail."""
    path, fresh = disk / "file", disk / "fresh"
    write_durable(path, b"old")
    fresh.write_bytes(b"new")
    fsync_file(fresh)
    fresh.replace(path)
    assert path.read_bytes() == b"new"
    ext4.cut_power()
    ext4.restore_power()
    assert path.read_bytes() == b"old"


def test_a_durable_write_survives(ext4: Ext4, disk: Path) -> None:
    write_durable(disk / "file", b"old")
    write_durable(disk / "file", b"new")
    create_durable(disk / "new folder" / "below" / "created", b"created")
    (disk / "moved from").write_bytes(b"moved")
    move_durable(disk / "moved from", disk / "other" / "moved to")
    ext4.cut_power()
    ext4.restore_power()
    assert (disk / "file").read_bytes() == b"new"
    assert (disk / "new folder" / "below" / "created").read_bytes() == b"created"
    assert (disk / "other" / "moved to").read_bytes() == b"moved"
    assert not (disk / "moved from").exists()


def test_an_artifact_that_is_there_is_whole_one_that_was_under_way_is_not_believed(
    ext4: Ext4, disk: Path
) -> None:
    store = ArtifactStore(disk, quota_bytes=10**6)
    digest = store.add(b"whole" * 1000)
    other = "0" * 64
    with store.partial(other, 5000) as partial:
        partial.append(b"x" * 4000)
    ext4.cut_power()
    ext4.restore_power()
    store = ArtifactStore(disk, quota_bytes=10**6)
    assert store.verify(digest)
    with store.partial(other, 5000) as partial:
        assert partial.offset in {0, 4000}, "never synced: it may be gone, and its hash decides in the end"


def copied(template: Path, ext4: Ext4) -> Path:
    folder = ext4.path / "device" / "state"
    shutil.copytree(template, folder)
    ext4.sync()
    return folder


def test_at_each_commit_point(
    ext4: Ext4,
    disk: Path,
    forge: Forge,
    committed_1: Path,
    releases: Path,
    request: pytest.FixtureRequest,
) -> None:
    """After each state that the machine has persisted, before any of its commands: what it said is what is found."""
    ended: Counter[Phase] = Counter()
    said: list[list[object]] = []
    while True:
        folder = copied(committed_1, ext4)
        pid = forge.fork(Order(folder=str(folder), releases=str(releases), release=2, pause=True))
        forge.let_go(pid)
        for _ in said:
            forge.hear()
            forge.let_go(pid)
        message = forge.hear()
        if "ended" in message:
            assert message["ended"] == 0
            break
        said.append(message["at"])
        ext4.cut_power()
        forge.bury(pid)
        ext4.restore_power()
        with MirroredStore(folder / "state.db") as store:
            found = msgspec.json.decode(store.values()[f"model/{MODEL}"], type=ModelState)
        assert found.deployment is not None
        assert [found.deployment.phase.value, found.deployment.report_pending] == said[-1]
        ended[examine(folder, go_on(folder, releases))] += 1
        shutil.rmtree(folder)
    phases = [phase for phase, _ in said]
    for phase in ("fetching", "ready", "probing", "activating", "probation", "committed"):
        assert phase in phases
    count(
        request,
        "ext4 shutdown after each persisted state",
        points=len(said),
        committed=ended[Phase.COMMITTED],
        rolled_back=ended[Phase.ROLLED_BACK],
        lost_states=0,
    )
    assert ended.total() == len(said)
    assert set(ended) == {Phase.COMMITTED, Phase.ROLLED_BACK}


def deciding_calls(ext4: Ext4, log: Path, forge: Forge, template: Path, releases: Path) -> list[Call]:
    state = copied(template, ext4)
    order = Order(folder=str(state), releases=str(releases), release=2)
    assert forge.run_traced(order, "-e", f"trace={','.join(DECIDING)}", log=log) == 0
    calls = recorded_calls(log, state)
    shutil.rmtree(state)
    return calls


@pytest.mark.skipif(STRACE is None, reason="MISSING TOOL: strace (apt install strace)")
@pytest.mark.parametrize("step", [15, pytest.param(1, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_after_calls_that_decide_what_a_power_cut_leaves(
    step: int,
    ext4: Ext4,
    disk: Path,
    forge: Forge,
    committed_1: Path,
    releases: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """The device stands still after an fsync, rename or unlink; then the power goes."""
    points = deciding_calls(ext4, tmp_path / "log", forge, committed_1, releases)[::step]
    ended: Counter[Phase] = Counter()
    for call in points:
        folder = copied(committed_1, ext4)
        order = Order(folder=str(folder), releases=str(releases), release=2)
        pid = forge.run_until(order, call, log=tmp_path / "log")
        ext4.cut_power()
        forge.bury(pid)
        ext4.restore_power()
        try:
            ended[examine(folder, go_on(folder, releases))] += 1
        except BaseException as error:
            error.add_note(f"power cut after {call}")
            raise
        shutil.rmtree(folder)
    count(
        request,
        f"ext4 shutdown after {'every' if step == 1 else 'some'} fsync, rename and unlink",
        points=len(points),
        committed=ended[Phase.COMMITTED],
        rolled_back=ended[Phase.ROLLED_BACK],
    )
    assert ended.total() == len(points)
