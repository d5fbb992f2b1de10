"""A made-up fleet whose devices differ as real ones do, a few of which drift; its windows are judged by the device's own code."""

import hashlib

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from agent.drift.merge import merge_counts
from agent.drift.reference import SignalSpec, build_reference, encode_reference
from agent.drift.verdict import Judge
from agent.protocol.drift import DriftReference, DriftWindow, SignalCounts, Verdict
from agent.protocol.manifest import (
    ArtifactRef,
    Budget,
    Evidence,
    GoldenRef,
    Lineage,
    Manifest,
    Probation,
    TensorSpec,
    Variant,
)

MODEL = "digits"
ROWS = 500
"""In a window."""
REFERENCE_ROWS = 5_000
INPUTS, CLASSES = 6, 10
HOURS = 24
POOL = 8
"""Windows of a device that are drawn; each stands for every eighth hour."""
DRIFTING = 50
"""One device in so many drifts, in the last month."""
DRIFT_DAYS = 30
DIGEST = hashlib.sha256(b"a model").hexdigest()
SIGNATURE_FILES = ("golden.msgpack", "card.md", "evaluation.json", "bench.json", "model.onnx")

Floats = NDArray[np.float64]


class Drawn(Struct, frozen=True):
    """What one window counted."""

    signals: dict[str, SignalCounts]
    verdict: Verdict


def make_reference() -> DriftReference:
    """Of six inputs and the class: seven signals."""
    generator = np.random.default_rng(1)
    values = generator.normal(size=(REFERENCE_ROWS, INPUTS)).astype(np.float32)
    answers = generator.dirichlet(np.ones(CLASSES), size=REFERENCE_ROWS).astype(np.float32)
    specs = [
        SignalSpec(name=f"x{i}", source="input", tensor="x", summary="value", index=i) for i in range(INPUTS)
    ]
    specs.append(SignalSpec(name="class", source="output", tensor="y", summary="argmax"))
    return build_reference(specs, inputs={"x": values}, outputs={"y": answers}, dataset_sha256=DIGEST)


def release_files(release: int, reference: DriftReference) -> dict[str, bytes]:
    """A release's manifest and its reference; the other files are named and never read."""
    data = encode_reference(reference)
    named = {name: ArtifactRef(filename=name, sha256=DIGEST, size=1) for name in SIGNATURE_FILES}
    manifest = Manifest(
        schema=1,
        model=MODEL,
        release=release,
        created=1.0,
        author="bench",
        summary="A year of windows.",
        task="classification",
        labels=tuple(map(str, range(CLASSES))),
        inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, INPUTS)),),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, CLASSES)),),
        preprocessing="none",
        variants=(
            Variant(
                name="onnx-int8",
                runtime="onnx",
                precision="int8",
                artifact=named["model.onnx"],
                accuracy=0.95,
            ),
        ),
        budgets={"x86-64": Budget(p99_ms=100, peak_memory_mib=500)},
        golden=GoldenRef(
            artifact=named["golden.msgpack"], absolute_tolerance=0.1, minimum_class_agreement=1.0
        ),
        drift_reference=ArtifactRef(
            filename="reference.json", sha256=hashlib.sha256(data).hexdigest(), size=len(data)
        ),
        probation=Probation(),
        evidence=Evidence(
            card=named["card.md"], evaluation=named["evaluation.json"], bench=(named["bench.json"],)
        ),
        lineage=Lineage(datasets={MODEL: DIGEST}, recipe="hw_bench hub-year", code_version="0", packages={}),
    )
    return {"manifest.json": msgspec.json.encode(manifest), "reference.json": data}


class Fleet:
    """Devices by number."""

    def __init__(self, devices: int, reference: DriftReference, seed: int = 7) -> None:
        self._generator = np.random.default_rng(seed)
        self._reference = reference
        self._judge = Judge(reference)
        self.names = [f"device-{number:05}" for number in range(devices)]
        usual = self._own(devices)
        self.usual = [self._draw(shares) for shares in usual]
        """Device → its windows."""
        self.drifted = {
            number: self._draw([np.roll(share, 3) for share in usual[number]])
            for number in range(0, devices, DRIFTING)
        }

    def day(self, number: int, *, drifts: bool) -> Drawn:
        """A whole day of a device, added up, and judged as one; the level and PSI stand in its verdict."""
        own = self._windows(number, drifts=drifts)
        hours = [own[hour % POOL] for hour in range(HOURS)]
        signals = {name: merge_counts(each.signals[name] for each in hours) for name in own[0].signals}
        return Drawn(signals, self._judge.judgement(signals, ROWS * HOURS).verdict)

    def _windows(self, number: int, *, drifts: bool) -> list[Drawn]:
        return self.drifted[number] if drifts and number in self.drifted else self.usual[number]

    def _own(self, devices: int) -> list[list[Floats]]:
        """Each device's own distribution: the reference's, moved by what makes devices differ."""
        bins = [np.array(signal.counts[1:-1], dtype=float) for signal in self._reference.signals]
        return [
            [self._generator.dirichlet(0.5 + 400 * share / share.sum()) for share in bins]
            for _ in range(devices)
        ]

    def _draw(self, shares: list[Floats]) -> list[Drawn]:
        names = [signal.name for signal in self._reference.signals]
        drawn = []
        for _ in range(POOL):
            signals = {
                name: SignalCounts(counts=(0, *self._generator.multinomial(ROWS, share).tolist(), 0))
                for name, share in zip(names, shares, strict=True)
            }
            drawn.append(Drawn(signals, self._judge.judgement(signals, ROWS).verdict))
        return drawn

    def window(self, number: int, release: int, closed: float, hour: int, *, drifts: bool) -> DriftWindow:
        """The window that a device closed at this hour."""
        drawn = self._windows(number, drifts=drifts)[hour % POOL]
        return DriftWindow(
            model=MODEL,
            release=release,
            deployment="d1",
            artifact=DIGEST,
            opened=closed - 3600.0,
            closed=closed,
            rows=ROWS,
            signals=drawn.signals,
            verdict=drawn.verdict,
        )
