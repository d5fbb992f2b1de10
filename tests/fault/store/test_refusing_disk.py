"""A real device on a disk that is full, or can only be read: it serves, and goes on when the disk lets it."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.cli.errors import CliError
from agent.protocol.state import Phase, Reason
from agent.protocol.transfer import ArtifactSource, Block, BlockRequest, TransferProblem
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.attacks.hostile_hub import Answer
from tests.fault.store.conftest import ACTIVE, NEXT, events, problems, serves, state_on
from tests.support.ext4 import MISSING, Ext4

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"MISSING: {', '.join(MISSING)}; no full and no read-only disk is tested"
)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """24 MiB in memory; an update asks for 16 of them."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, *, but: int = 0) -> Path:
    """Take all room but so many bytes; returns what takes it."""
    ballast = folder / "ballast"
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(descriptor, b"x" * 4096):
            pass
    os.ftruncate(descriptor, max(0, os.fstat(descriptor).st_size - but))
    os.close(descriptor)
    return ballast


@contextmanager
def full(folder: Path, *, but: int = 0) -> Iterator[None]:
    ballast = fill(folder, but=but)
    try:
        yield
    finally:
        ballast.unlink()


def test_a_full_disk_at_the_start(device: AttackedDevice, small: Path) -> None:
    with state_on(device, small):
        for name in ("telemetry.db", "telemetry.db.damaged"):
            (small / "state" / name).unlink(missing_ok=True)  # and it has to be made anew
        with full(small):
            device.start()
            serves(device, ACTIVE)
            assert "nothing is recorded" in problems(device)["telemetry-unavailable"]
            assert device.errors()["telemetry-not-recorded"] > 0
            with pytest.raises(CliError, match=r"events can't be done now: .*can't be used"):
                events(device, "hold")
        wait_for("telemetry to come back", lambda: problems(device) == {}, seconds=SECONDS)
        assert "can be used again" in events(device, "telemetry-database")[0].text
        device.commits(NEXT)


def test_a_full_disk_when_an_update_is_ordered(device: AttackedDevice, small: Path) -> None:
    with state_on(device, small):
        device.start()
        serves(device, ACTIVE)
        order, deployment = device.order(NEXT)
        with full(small):
            assert device.refuses(order).code == "trust-not-stored", "what can't be remembered is not taken"
            serves(device, ACTIVE)
        assert device.ends(order, deployment).phase is Phase.COMMITTED
        assert device.status().state.refusal is None


@pytest.mark.soak
def test_room_for_the_databases_and_not_for_an_update(device: AttackedDevice, small: Path) -> None:
    with state_on(device, small):
        device.start()
        serves(device, ACTIVE)
        order, deployment = device.order(NEXT)
        with full(small, but=1_000_000):
            device.desire(order)
            reason = wait_for("it to wait", lambda: waiting_for(device, deployment), seconds=SECONDS)
            assert reason.code == "low-disk"
            serves(device, ACTIVE)
        assert device.ends(order, deployment).phase is Phase.COMMITTED


@pytest.mark.soak
def test_a_disk_that_fills_up_in_mid_transfer(device: AttackedDevice, small: Path) -> None:
    """The first block of the release's file comes, and then somebody else takes the room."""
    with state_on(device, small):
        device.start()
        serves(device, ACTIVE)
        order, deployment = device.order(NEXT)
        taken: list[Path] = []

        def take(request: BlockRequest, honest: Block | TransferProblem) -> Iterable[Answer]:
            if isinstance(request.source, ArtifactSource) and request.offset > 0 and not taken:
                taken.append(fill(small))
            return (honest,)

        device.hub.tamper = take
        device.desire(order)
        wait_for("the disk to refuse", lambda: taken and "disk is full" in device.log(), seconds=SECONDS)
        serves(device, ACTIVE)
        taken[0].unlink()
        report = device.ends(order, deployment)
        assert report.phase is Phase.REFUSED
        assert report.reason is not None
        assert report.reason.code == "no-room"
        assert "No space left on device" in report.reason.text
        serves(device, ACTIVE)
        device.commits(NEXT)


def waiting_for(device: AttackedDevice, deployment: str) -> Reason | None:
    report = device.deployment()
    return report.waiting_for if report is not None and report.deployment == deployment else None


@pytest.fixture
def ext4() -> Iterator[Ext4]:
    made = Ext4()
    yield made
    made.close()


def test_a_disk_that_can_only_be_read(device: AttackedDevice, ext4: Ext4, tmp_path: Path) -> None:
    """As after an error, when ext4 makes itself read-only; then the disk is changed."""
    state = device.config.state
    with state_on(device, ext4.path):
        device.start()
        serves(device, ACTIVE)
        ext4.fail()
        order, _ = device.order(NEXT)
        assert device.refuses(order).code == "trust-not-stored"
        serves(device, ACTIVE)
        device.stop()
        device.start()
        serves(device, ACTIVE)
        assert "telemetry-unavailable" in problems(device)
        device.stop()
        shutil.copytree(state, tmp_path / "copy")
    shutil.rmtree(state)
    (tmp_path / "copy").rename(state)
    device.start()
    serves(device, ACTIVE)
    assert problems(device) == {}
    device.commits(NEXT)
