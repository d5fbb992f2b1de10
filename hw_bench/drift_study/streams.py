"""Windows of a real stream: references and rows drawn anew, counted and judged by the device's own window builder."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from agent.drift import ClosedWindow, Identity, SignalSpec, WindowBuilder, build_reference
from agent.drift.binning import Floats
from agent.protocol.drift import DriftReference
from hw_bench.drift_study.subjects import POLICY, Population, Subject
from models.network import IntArray

WINDOW_ROWS = POLICY.window_rows
_IDENTITY = Identity(model="study", release=1, deployment="study", artifact="0" * 64)


@dataclass(frozen=True, slots=True)
class Draw:
    """Rows of a population to be sent, and how likely each is."""

    population: Population
    weights: Floats | None = None
    """Shape (rows,); None: all alike."""
    stay: int = 1
    """How many rows in a row show the same, as the frames of a camera do while nothing moves."""

    def rows(self, count: int, rng: np.random.Generator) -> IntArray:
        """``count`` rows, each (or each that stays) drawn by itself from all of them: always the same distribution."""
        share = None if self.weights is None else self.weights / self.weights.sum()
        drawn = rng.choice(len(self.population.labels), -(-count // self.stay), p=share)
        return np.repeat(drawn, self.stay)[:count]


def tensors(population: Population, rows: IntArray) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """What a builder is given: the extracted signals as they are; the class from the scores, since it has no order."""
    return {"signals": population.signals[rows, :-1]}, {"scores": population.scores[rows].astype(np.float64)}


def reference_of(subject: Subject, rng: np.random.Generator) -> DriftReference:
    """A reference of rows drawn anew, with bins of its own."""
    inputs, outputs = tensors(subject.clean, Draw(subject.clean).rows(subject.reference_rows, rng))
    *values, classes = subject.signals
    specs = [
        SignalSpec(name=name, source="input", tensor="signals", summary="value", index=index)
        for index, name in enumerate(values)
    ]
    specs.append(SignalSpec(name=classes, source="output", tensor="scores", summary="argmax"))
    return build_reference(specs, inputs=inputs, outputs=outputs, dataset_sha256="0" * 64, policy=POLICY)


class Stream:
    """One device's windows under one reference, closed every :data:`WINDOW_ROWS` rows."""

    def __init__(self, reference: DriftReference, rng: np.random.Generator) -> None:
        self._builder = WindowBuilder(_IDENTITY, reference)
        self._rng = rng
        self._clock = 1.0

    def send(self, draw: Draw, rows: int) -> Iterator[ClosedWindow]:
        """Send rows; gives each window that they close."""
        left = rows
        while left:
            part = min(left, WINDOW_ROWS - self._builder.rows)
            inputs, outputs = tensors(draw.population, draw.rows(part, self._rng))
            self._builder.add(inputs, outputs, self._clock)
            self._clock += 1.0
            left -= part
            if self._builder.rows >= WINDOW_ROWS:
                closed = self._builder.close(self._clock)
                if closed is not None:
                    yield closed
