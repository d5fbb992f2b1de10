"""A fleet to look at: cameras over conveyor belts, most of them well, each of the others sick in a way of its own.

Every window is made by the device's own code from rows that were drawn, and stored by the hub's own code; nothing that a
page shows is written by hand. ``populate`` fills a hub that has had its ceremony for the model ``digits``.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from agent.drift import SignalSpec, WindowBuilder, build_reference, encode_reference
from agent.drift.calibration import Labelled, calibrate
from agent.drift.window import Identity
from agent.protocol.batch_codec import ReceivedBatch
from agent.protocol.drift import Alarm, DriftPolicy, DriftReference, DriftWindow
from agent.protocol.ledger import BudgetReport, Traffic
from agent.protocol.state import (
    DeploymentReport,
    OutboxReport,
    Phase,
    Reason,
    ReportedState,
    ServiceVerdict,
    ServingReport,
)
from agent.protocol.telemetry import Accuracy, Body, Event, Health, Record, Thermal, Window
from cloud_hub.devices.models import Device
from cloud_hub.devices.service import take_report
from cloud_hub.hub import Hub
from cloud_hub.ingest.store import store_batches
from cloud_hub.retraining.keeper import RetrainingKeeper
from cloud_hub.samples.models import SampleOffer, SampleRequestRow
from cloud_hub.telemetry.keeper import RollUpKeeper

MODEL, RELEASE = "digits", 1
HOUR, DAY = 3600.0, 86_400.0
DAYS = 28
WINDOWS_A_DAY = 4
ROWS = 600
FEATURES = ("brightness", "contrast", "sharpness", "noise", "humidity", "belt-speed")
CLASSES = 10
ACCURACY = 0.86
DATASET = hashlib.sha256(b"dataset").hexdigest()

Floats = NDArray[np.float64]
Change = Callable[[Floats, np.random.Generator], None]
"""Does to rows of features, in place, what a sickness does."""


def _nothing(_rows: Floats, _random: np.random.Generator) -> None:
    pass


def dirty_lens(rows: Floats, _random: np.random.Generator) -> None:
    rows[:, 2] *= 0.45
    rows[:, 1] *= 0.8


def dusk(rows: Floats, _random: np.random.Generator) -> None:
    rows[:, 0] -= 0.11


def stuck(rows: Floats, _random: np.random.Generator) -> None:
    rows[:, 4] = 41.0


def loose_cable(rows: Floats, random: np.random.Generator) -> None:
    rows[random.random(len(rows)) < 0.2, 5] = math.nan


@dataclass(frozen=True)
class Sickness:
    """From how many days ago on a device is changed, and how much it serves."""

    name: str
    days: float = 0.0
    change: Change = _nothing
    rows: int = ROWS
    online: bool = True
    hot: bool = False
    dropped: dict[str, int] = field(default_factory=dict)
    cut: bool = False
    """Every eighth window was cut off."""


FLEET = (
    Sickness("dock-2", days=5.5, change=dirty_lens),
    Sickness("yard-1", days=2.0, change=dusk),
    Sickness("gate-4", days=9.0, change=stuck, hot=True),
    Sickness("gate-2", days=1.2, change=loose_cable, dropped={"health": 214, "event": 3}),
    Sickness("attic-1", rows=60),
    Sickness("barge-7", online=False, cut=True),
)


def reference() -> DriftReference:
    """Of 5,000 rows, with a calibration that holds."""
    random = np.random.default_rng(1)
    features, probabilities, correct = _rows(5_000, random, _nothing)
    specs = [
        SignalSpec(name=name, source="input", tensor="features", summary="value", index=place, bins=12)
        for place, name in enumerate(FEATURES)
    ]
    specs += [
        SignalSpec(name="confidence", source="output", tensor="probabilities", summary="confidence", bins=12),
        SignalSpec(name="class", source="output", tensor="probabilities", summary="argmax"),
    ]
    made = build_reference(
        specs,
        inputs={"features": features},
        outputs={"probabilities": probabilities},
        dataset_sha256=DATASET,
        policy=DriftPolicy(window_rows=ROWS, persistence=2),
    )
    confidence = next(signal for signal in made.signals if signal.name == "confidence")
    held_out = Labelled(confidence=probabilities.max(axis=1), correct=correct)
    return msgspec.structs.replace(made, calibration=calibrate(confidence, held_out))


def reference_file() -> bytes:
    return encode_reference(reference())


def _rows(
    count: int, random: np.random.Generator, change: Change
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Features, probabilities, and whether the likeliest class was right: as often as its probability says."""
    features = np.stack(
        [
            random.normal(0.52, 0.1, count),
            random.normal(0.2, 0.04, count),
            random.gamma(9.0, 0.05, count),
            random.gamma(3.0, 0.01, count),
            random.normal(45.0, 6.0, count),
            random.normal(1.2, 0.08, count),
        ],
        axis=1,
    )
    change(features, random)
    clear = np.clip(np.nan_to_num(features[:, 2], nan=0.4) / 0.45, 0.2, 1.6)
    top = np.clip(random.beta(9.0 * clear, 1.4), 0.12, 0.999)
    classes = random.choice(CLASSES, count, p=np.linspace(1.4, 0.6, CLASSES) / CLASSES)
    probabilities = np.repeat(((1 - top) / (CLASSES - 1))[:, None], CLASSES, axis=1)
    probabilities[np.arange(count), classes] = top
    return features, probabilities, random.random(count) < top


class _Camera:
    """What one device would have sent."""

    def __init__(self, name: str, sickness: Sickness, made: DriftReference, number: int) -> None:
        self.name, self.sickness, self.made = name, sickness, made
        self.random = np.random.default_rng(100 + number)
        self.alarm: Alarm | None = None

    def window(
        self, closed: float, ago: float, slice_: str | None = None, rows: int | None = None
    ) -> DriftWindow:
        sick = self.sickness
        change = sick.change if ago <= sick.days * DAY else _nothing
        features, probabilities, _ = _rows(rows or sick.rows, self.random, change)
        identity = Identity(
            model=MODEL, release=RELEASE, deployment=f"d-{self.name}", artifact="a" * 64, slice=slice_
        )
        builder = WindowBuilder(identity, self.made)
        builder.add({"features": features}, {"probabilities": probabilities}, closed - DAY / WINDOWS_A_DAY)
        found = builder.close(closed)
        assert found is not None
        return found.window

    def windows(self, now: float, days: int) -> Iterator[DriftWindow]:
        count = days * WINDOWS_A_DAY
        for number in range(count):
            closed = now - 900.0 - (count - 1 - number) * DAY / WINDOWS_A_DAY
            window = self._with_alarm(self.window(closed, now - closed))
            if self.sickness.cut and number % 8 == 5:
                window = msgspec.structs.replace(window, incomplete=True)
            yield window

    def _with_alarm(self, window: DriftWindow) -> DriftWindow:
        """Two windows in a row raise it, as the policy says."""
        level = window.verdict.level
        before = self.alarm
        if before is not None and before.level == level:
            self.alarm = msgspec.structs.replace(before, windows=before.windows + 1)
        else:
            self.alarm = Alarm(level=level, since=window.closed, windows=1)
        return msgspec.structs.replace(window, alarm=self.alarm)

    def health(self, now: float, days: int) -> Iterator[Health]:
        for step in range(days * 48):
            time = now - days * DAY + step * DAY / 48
            if self.sickness.cut and 300 < step < 420:
                continue
            noon = math.sin((time % DAY) / DAY * 2 * math.pi - math.pi / 2)
            warm = 52 + 9 * noon + self.random.normal(0, 1.2) + (19 if self.sickness.hot else 0)
            thermal: Thermal = "critical" if warm > 84 else "hot" if warm > 78 else "ok"
            yield Health(
                time=time,
                cpu_percent=30 + 12 * noon,
                memory_available_mib=930 - 20 * noon + self.random.normal(0, 8),
                disk_free_mib=9_400 - step * 1.1,
                temperature_c=warm,
                thermal=thermal,
                load=max(0.05, 0.45 + 0.3 * noon + self.random.normal(0, 0.05)),
                supervisor_pss_mib=27.0,
            )

    def slices(self, now: float) -> Iterator[DriftWindow]:
        for site, rows in (("north", 400), ("south", 350), ("other", 120)):
            yield self.window(now - 900.0, 0.0, f"site={site}", rows)

    def accuracy(self, now: float) -> Accuracy:
        """Labels of yesterday's rows."""
        change = self.sickness.change if self.sickness.days > 1 else _nothing
        _, _, correct = _rows(240, self.random, change)
        day = (now // DAY - 1) * DAY
        return Accuracy(
            time=now - 3600,
            model=MODEL,
            release=RELEASE,
            opened=day,
            closed=day + DAY,
            origin="person",
            rows=len(correct),
            correct=int(correct.sum()),
        )

    def report(self, now: float, window: DriftWindow) -> ReportedState:
        sick = self.sickness
        serving = ServingReport(
            model=MODEL,
            release=RELEASE,
            variant="onnx-int8",
            artifact="a" * 64,
            ready=True,
            requests=int(self.random.integers(30_000, 90_000)),
            failures=0,
            p50_ms=0.31,
            p95_ms=0.52 + self.random.random() * 0.1,
            p99_ms=0.8 + self.random.random() * 0.2,
            memory_mib=41.0,
            drift=window.verdict.level,
            drift_rows=window.rows,
            service_level=ServiceVerdict(
                level="ok", requests=2000, p99_ms=0.9, failure_rate=0.0, text="p99 0.9 ms of 5 ms allowed"
            ),
        )
        committed = DeploymentReport(
            deployment=f"d-{self.name}",
            model=MODEL,
            release=RELEASE,
            phase=Phase.COMMITTED,
            since=now - DAYS * DAY,
            chosen=Reason(code="most-accurate", text="the most accurate of the two that keep the budget"),
        )
        lost = sum(sick.dropped.values())
        return ReportedState(
            device=self.name,
            agent_version="0.1",
            hardware_class="x86-64",
            boot="boot-1",
            sequence=1,
            time=now,
            held=False,
            inference_address="127.0.0.1:8600",
            serving=(serving,),
            deployments=(committed,),
            outbox=OutboxReport(
                epoch="e1",
                recorded=1_512 + lost,
                acknowledged=1_496,
                pending=4,
                dropped=sick.dropped,
                quarantined=0,
                merged={"health": 12},
                budget=BudgetReport(
                    month="2026-11",
                    monthly_bytes=5_000_000,
                    used_bytes=843_000,
                    left_bytes=4_157_000,
                    thinning="none",
                ),
            ),
            errors={},
            traffic=(
                Traffic(month="2026-11", purpose="telemetry", bytes_in=31_000, bytes_out=812_000),
                Traffic(month="2026-11", purpose="artifacts", bytes_in=9_812_345, bytes_out=12_345),
                Traffic(month="2026-11", purpose="metadata", bytes_in=210_000, bytes_out=18_000),
            ),
        )


def populate(hub: Hub, *, well: int = 6, days: int = DAYS) -> None:
    """Let :data:`FLEET` and ``well`` healthy cameras have served for ``days`` days."""
    made, now = reference(), hub.now()
    sicknesses = [*FLEET, *(Sickness(f"hall-{number:03d}") for number in range(1, well + 1))]
    for number, sickness in enumerate(sicknesses):
        camera = _Camera(sickness.name, sickness, made, number)
        _send(hub, camera, now, days, in_full=number < len(FLEET) + 6)
    keeper = RollUpKeeper(hub.database, hub.artifacts)
    while keeper.step(now, at_least=0.0):
        pass
    # The policy asks that a fleet has been sick for a day.
    retraining = RetrainingKeeper(hub.database, hub.artifacts, hub.config)
    retraining.step(now - 26 * HOUR)
    retraining.step(now)
    hub.database.write(lambda session: _ask_for_samples(session, now))


def _ask_for_samples(session: Session, now: float) -> None:
    session.add(
        SampleRequestRow(
            id="look-at-dock-2",
            model=MODEL,
            first_release=RELEASE,
            last_release=RELEASE,
            maximum=20,
            purpose="is the lens dirty, or are the parcels new?",
            created=now - 5 * HOUR,
            expires=now + DAY,
            approver="alice",
            keyid="k" * 64,
            sent_by="the-approver",
            digest="d" * 64,
            envelope=b"",
            closed=None,
        )
    )
    session.flush()
    answers = {
        "dock-2": (True, "accepted", 12),
        "gate-4": (False, "not-allowed", 0),
        "barge-7": (None, None, 0),
    }
    for device, (accepted, code, chosen) in answers.items():
        said = {"accepted": "12 samples leave", "not-allowed": "samples.allow_requests is off on this device"}
        session.add(
            SampleOffer(
                request="look-at-dock-2",
                device=device,
                answered=None if accepted is None else now - 4 * HOUR,
                accepted=accepted,
                code=code,
                text=None if code is None else said[code],
                chosen=chosen,
            )
        )


def _send(hub: Hub, camera: _Camera, now: float, days: int, *, in_full: bool) -> None:
    windows = list(camera.windows(now, days if in_full else 2))
    bodies: list[tuple[float, Body]] = [(window.closed + 20, Window(window=window)) for window in windows]
    bodies += [(now - 800, Window(window=window)) for window in camera.slices(now)]
    if in_full:
        bodies += [(health.time + 20, health) for health in camera.health(now, min(days, 14))]
    bodies += [(now - 600, camera.accuracy(now)), (now - 500, _event(camera, now))]

    def work(session: Session) -> None:
        device = _device(camera, now)
        session.add(device)
        session.flush()
        state = camera.report(now - 40, windows[-1])
        take_report(session, device, state, msgspec.json.encode(state), now - 40)
        together: dict[int, list[tuple[float, Record]]] = {}
        for sequence, (received, body) in enumerate(bodies, 1):
            hours = int(received // (6 * HOUR))
            together.setdefault(hours, []).append((received, Record(sequence=sequence, body=body)))
        for found in together.values():
            records = tuple(record for _, record in found)
            batch = ReceivedBatch(device=camera.name, epoch="e1", records=records, refused={})
            store_batches(session, [batch], max(received for received, _ in found))

    hub.database.write(work)


def _event(camera: _Camera, now: float) -> Event:
    return Event(
        time=now - 3 * DAY,
        severity="info",
        kind="deployment",
        text=f"{MODEL} {RELEASE} committed",
        model=MODEL,
        release=RELEASE,
        deployment=f"d-{camera.name}",
    )


def _device(camera: _Camera, now: float) -> Device:
    return Device(
        id=camera.name,
        hardware_class="x86-64",
        enrolled=now - 60 * DAY,
        certificate_sha256="c" * 64,
        certificate_serial=str(int(hashlib.sha256(camera.name.encode()).hexdigest()[:12], 16)),
        certificate_expires=now + 200 * DAY,
        online=camera.sickness.online,
        presence_at=now - 100,
    )
