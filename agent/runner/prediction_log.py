"""What the model said of requests that carry an id, so that labels can be joined later; an observer of the books.

Only the class, the confidence and what the calibration expects of it are told, never an input; and no more rows a minute
than the device's owner allows.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from agent.drift.estimate import slot_shares
from agent.protocol.drift import DriftReference
from agent.protocol.labels import Prediction
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import Predicted
from agent.runner.backends import Array
from agent.runner.request_facts import RequestFacts

BATCH = 256
"""Predictions that are told at once, before their second is over."""

_MINUTE = 60.0


class Expectation:
    """How often answers of one confidence are right, by the calibration in the reference."""

    def __init__(self, reference: DriftReference | None) -> None:
        self._shares: list[float] | None = None
        calibration = None if reference is None else reference.calibration
        if reference is None or calibration is None or calibration.problem is not None:
            return
        signal = next(each for each in reference.signals if each.name == calibration.signal)
        self._edges = signal.edges
        self._shares = slot_shares(signal, calibration.rows, calibration.correct)

    def of(self, confidence: float) -> float | None:
        """None where no calibration holds."""
        if self._shares is None:
            return None
        if confidence == self._edges[-1]:  # the last bin is closed
            return self._shares[-2]
        return self._shares[bisect_right(self._edges, confidence)]


def classes_tensor(
    reference: DriftReference | None, outputs: Sequence[TensorSpec], labels: Sequence[str]
) -> str | None:
    """The output whose largest element is the answer; None where the model does not tell classes apart.

    The reference says it by the signal that watches confidence or classes; else it is the one output that is as wide as
    there are labels.
    """
    if reference is not None:
        for summary in ("confidence", "argmax"):
            for signal in reference.signals:
                if signal.source == "output" and signal.summary == summary:
                    return signal.tensor
    wide = [spec.name for spec in outputs if spec.shape and spec.shape[-1] == len(labels) > 1]
    return wide[0] if len(wide) == 1 else None


class PredictionLog:
    """Tells about once a second what was said."""

    def __init__(
        self,
        tensor: str,
        labels: Sequence[str],
        *,
        per_minute: int,
        expectation: Expectation,
        slice_of: Callable[[RequestFacts], str | None],
        told: Callable[[Predicted], None],
    ) -> None:
        """``per_minute``: rows; as many may come at once after a quiet minute."""
        self._tensor = tensor
        self._labels = labels
        self._per_minute = per_minute
        self._expected = expectation.of
        self._slice_of = slice_of
        self._told = told
        self._allowance = float(per_minute)
        self._refilled: float | None = None
        self._waiting: list[Prediction] = []
        self._skipped = 0

    def add(
        self, _inputs: Mapping[str, Array], outputs: Mapping[str, Array], facts: RequestFacts, now: float
    ) -> None:
        """Take one answered batch; without an id there is nothing to do."""
        if not facts.id:
            return
        output = outputs[self._tensor]
        rows = output.reshape(len(output) if output.ndim > 1 else 1, -1)
        if rows.shape[1] < 2:  # noqa: PLR2004 (one number names no class)
            return
        taken = self._allowed(len(rows), now)
        self._skipped += len(rows) - taken
        name = self._slice_of(facts)
        for index in range(taken):
            request = facts.id if len(rows) == 1 else f"{facts.id}#{index}"
            self._take(request, rows[index], name, now)
        if len(self._waiting) >= BATCH:
            self.tick(now)

    def tick(self, _now: float) -> None:
        """Tell what waits."""
        waiting, self._waiting = self._waiting, []
        skipped, self._skipped = self._skipped, 0
        for start in range(0, max(len(waiting), 1), BATCH):
            part = tuple(waiting[start : start + BATCH])
            if part or skipped:
                self._told(Predicted(predictions=part, skipped=skipped))
                skipped = 0

    def close(self, now: float) -> None:
        """The last word."""
        self.tick(now)

    def _take(self, request: str, row: Array, name: str | None, now: float) -> None:
        index = int(row.argmax())
        confidence = float(row[index])
        if not math.isfinite(confidence):  # the client is told an error, so nothing was predicted
            return
        label = self._labels[index] if index < len(self._labels) else str(index)
        self._waiting.append(Prediction(request, now, name, label, confidence, self._expected(confidence)))

    def _allowed(self, rows: int, now: float) -> int:
        since = 0.0 if self._refilled is None else max(0.0, now - self._refilled)
        self._refilled = now
        self._allowance = min(self._per_minute, self._allowance + since / _MINUTE * self._per_minute)
        taken = min(rows, int(self._allowance))
        self._allowance -= taken
        return taken
