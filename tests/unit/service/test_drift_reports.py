"""The report on a real database and real artifacts."""

import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from agent.core.slots import InstalledRelease
from agent.drift import encode_reference, judge
from agent.protocol.labels import AccuracyFigure, LabelCounts
from agent.protocol.manifest import ArtifactRef
from agent.protocol.runner import WindowClosed
from agent.protocol.state import VariantPolicy
from agent.service.drift_reports import DriftReports
from agent.store.artifacts import ArtifactStore
from agent.store.database import Database
from agent.store.errors import StoreClosedError
from agent.store.history import Keep
from agent.store.outbox import Outbox
from agent.store.schema import migrate
from agent.store.windows import WindowLog
from agent.store.writer import Writer
from tests.contract.protocol.samples import MANIFEST
from tests.support.drift_reports import DIGEST, OPENED, reference, window

FIGURE = AccuracyFigure(
    model="digits", release=2, origin="person", opened=1.0, closed=2.0, rows=10, correct=9, low=0.6, high=0.98
)


class Device:
    """What the reports are read from."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.artifacts = ArtifactStore(folder, quota_bytes=1 << 24)
        self.reference = reference()
        self.installed: tuple[InstalledRelease, ...] = (self._install(2),)
        self.outbox = Outbox(
            database,
            device="cam-1",
            maximum_bytes=1 << 20,
            clock=lambda: OPENED,
            keep=Keep(bytes=1 << 30, days=1e6),
        )
        self.labels_closed = False
        self.reports = DriftReports(
            WindowLog(database), self.artifacts, lambda _: self.installed, self._accuracy
        )

    def _install(self, release: int) -> InstalledRelease:
        data = encode_reference(self.reference)
        manifest = replace(
            MANIFEST,
            model="digits",
            release=release,
            drift_reference=ArtifactRef(
                filename="reference.json", sha256=hashlib.sha256(data).hexdigest(), size=len(data)
            ),
        )
        self.artifacts.add(data)
        stored = msgspec.json.encode(manifest)
        self.artifacts.add(stored)
        digest = hashlib.sha256(stored).hexdigest()
        return InstalledRelease(
            deployment="d2",
            model="digits",
            release=release,
            variant="onnx-int8",
            artifact=DIGEST,
            manifest=digest,
            variant_policy=VariantPolicy.MOST_ACCURATE,
            files=(digest,),
        )

    async def _accuracy(self, _model: str | None) -> tuple[tuple[AccuracyFigure, ...], LabelCounts]:
        if self.labels_closed:
            raise StoreClosedError("the agent stops")
        counts = LabelCounts(predictions=0, oldest=None, labelled=0, skipped=0, outcomes={})
        return (FIGURE, replace(FIGURE, release=1)), counts

    async def close_window(self, **how: object) -> None:
        one = window(self.reference, **how)  # type: ignore[arg-type]  # what it takes
        signals = judge(self.reference, one.signals, one.rows).signals
        await self.outbox.append(WindowClosed(window=one, signals=signals))


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    migrate(tmp_path)
    writer = Writer()
    database = await Database.open(tmp_path / "telemetry.db", writer)
    yield Device(database, tmp_path / "artifacts")
    await database.close()
    await writer.close()


async def test_the_newest_window_lies_beside_its_signed_reference(device: Device) -> None:
    assert await device.reports.reports(None, 9) == ()
    for hour in range(3):
        await device.close_window(closed=OPENED + hour * 3_600)
    await device.close_window(sharpness=0.9, closed=OPENED + 4 * 3_600)
    await device.close_window(rows=350, closed=OPENED + 4 * 3_600, slice_="site=north")
    (found,) = await device.reports.reports("digits", 3)
    assert found.problem is None
    assert found.signals[0].reference.name == "sharpness"
    assert found.signals[0].verdict.level == "drift"
    assert found.signals[0].verdict.js > 0.1
    assert found.reference_rows == 2_000
    assert [mark.level for mark in found.history] == ["ok", "ok", "drift"], "the newest last"
    assert [each.slice for each in found.slices] == ["site=north"]
    assert found.accuracy == (FIGURE,), "of the release that serves"


async def test_a_reference_that_is_gone_leaves_the_verdict(device: Device) -> None:
    await device.close_window(sharpness=0.9)
    device.installed = ()
    (found,) = await device.reports.reports(None, 3)
    assert (found.window.verdict.level, found.signals) == ("drift", ())
    assert found.problem == "the files of digits release 2 are no longer on this device"


async def test_a_reference_that_is_damaged_is_said(device: Device) -> None:
    await device.close_window()
    device.artifacts.path(device.installed[0].manifest).write_bytes(b"{")
    (found,) = await device.reports.reports(None, 3)
    assert found.problem is not None
    assert found.problem.startswith("the reference of digits release 2 can't be read:")


async def test_labels_that_can_not_be_read_keep_nothing_back(device: Device) -> None:
    await device.close_window()
    device.labels_closed = True
    (found,) = await device.reports.reports(None, 3)
    assert (found.accuracy, len(found.signals)) == ((), 5)


def test_the_supervisor_needs_no_numpy_for_it() -> None:
    import subprocess

    code = "import sys, agent.service.drift_reports; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
