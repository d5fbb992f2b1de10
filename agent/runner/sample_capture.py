"""Samples beside the request path (an observer of :class:`agent.runner.bookkeeping.Bookkeeping`): only where they are asked for.

On the path, rows are copied, so many a second and so many bytes and no more; once a second those are judged together, and
what is worth it is handed to the supervisor. Nothing is written here.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import numpy as np

from agent.drift.signals import Extractor, keyed
from agent.protocol.drift import DriftReference
from agent.protocol.samples import KeptSample, SampleDatatype, SamplePolicy, SampleTensor
from agent.runner.backends import Array
from agent.runner.backends.datatypes import DTYPES
from agent.runner.request_facts import RequestFacts
from agent.runner.sample_choice import Choice, Chooser

ROWS_A_SECOND = 64
BYTES_A_SECOND = 1024 * 1024
"""Copied between two looks; what comes beyond is not considered."""
ALIKE = 3
"""Samples of one likeness that are handed over, until it was not seen for :data:`REMEMBERED` others."""
REMEMBERED = 512
SECONDS_AN_HOUR = 3600.0
BURST = 6.0
"""A sixth of an hour's samples may go at once."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Served(NamedTuple):
    """What serves the rows."""

    model: str
    release: int
    deployment: str
    artifact: str


class _Row(NamedTuple):
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    """Of one row each, with the batch axis."""
    time: float

    @property
    def layout(self) -> tuple[object, ...]:
        both = (*self.inputs.items(), *self.outputs.items())
        return tuple((name, array.dtype.str, array.shape) for name, array in both)


class SampleCapture:
    """Keeps an eye on the rows of one runner. Not thread-safe: it belongs to the runner's loop."""

    def __init__(
        self,
        served: Served,
        reference: DriftReference,
        policy: SamplePolicy,
        taken: Callable[[KeptSample], None],
    ) -> None:
        """``taken`` gets each sample, at most ``policy.per_hour`` of them."""
        self._served = served
        self._extractor = Extractor(reference.signals, reference.embeddings)
        self._policy = policy
        self._taken = taken
        self._chooser = Chooser(reference, policy)
        self._rows: list[_Row] = []
        self._room_rows, self._room_bytes = ROWS_A_SECOND, BYTES_A_SECOND
        self._burst = max(1.0, policy.per_hour / BURST)
        self._tokens = self._burst
        self._refilled: float | None = None
        self._alike: OrderedDict[str, int] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def add(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], _facts: RequestFacts, now: float
    ) -> None:
        """Copy what there is room for, until the next :meth:`tick`."""
        if self._room_rows <= 0:
            return
        tensors = (*inputs.values(), *outputs.values())
        if any(array.ndim == 0 or array.dtype.kind not in "biuf" for array in tensors):
            return  # text has no signal, and no place in a sample
        rows = len(tensors[0])
        if any(len(array) != rows for array in tensors):
            return
        row_bytes = sum(array.nbytes for array in tensors) // max(rows, 1)
        if row_bytes > self._policy.maximum_bytes:
            return
        for i in range(min(rows, self._room_rows, self._room_bytes // max(row_bytes, 1))):
            row = slice(i, i + 1)
            self._rows.append(
                _Row(
                    {name: array[row].copy() for name, array in inputs.items()},
                    {name: array[row].copy() for name, array in outputs.items()},
                    now,
                )
            )
            self._room_rows -= 1
            self._room_bytes -= row_bytes

    def tick(self, now: float) -> None:
        """Judge what was copied, and hand over what is worth it: the most informative first."""
        rows, self._rows = self._rows, []
        self._room_rows, self._room_bytes = ROWS_A_SECOND, BYTES_A_SECOND
        self._refill(now)
        if not rows:
            return
        chosen = [(choice, row) for choice, row in self._judged(rows) if choice.why]
        chosen.sort(key=lambda each: -each[0].score)
        for choice, row in chosen:
            if self._tokens < 1.0:
                return
            sample = self._sample(choice, row)
            if self._is_new(sample):
                self._tokens -= 1.0
                self._taken(sample)

    def close(self, now: float) -> None:
        """The last word."""
        self.tick(now)

    def _refill(self, now: float) -> None:
        if self._refilled is not None and now > self._refilled:
            gained = (now - self._refilled) * self._policy.per_hour / SECONDS_AN_HOUR
            self._tokens = min(self._burst, self._tokens + gained)
        self._refilled = now  # also where the clock was set back

    def _judged(self, rows: list[_Row]) -> list[tuple[Choice, _Row]]:
        """Rows of one shape are judged together."""
        groups: dict[tuple[object, ...], list[_Row]] = {}
        for row in rows:
            groups.setdefault(row.layout, []).append(row)
        judged: list[tuple[Choice, _Row]] = []
        for group in groups.values():
            inputs, outputs = _joined([row.inputs for row in group]), _joined([row.outputs for row in group])
            values = self._extractor.values(keyed(inputs, outputs))
            judged += zip(self._chooser.choose(values), group, strict=True)
        return judged

    def _is_new(self, sample: KeptSample) -> bool:
        """Whether it is neither an input that was handed over already nor one more like many others."""
        if sample.id in self._known:
            return False
        alike = self._alike.get(sample.likeness, 0)
        self._alike[sample.likeness] = min(alike + 1, ALIKE)
        self._alike.move_to_end(sample.likeness)
        if len(self._alike) > REMEMBERED:
            self._alike.popitem(last=False)
        if alike >= ALIKE:
            return False
        self._known[sample.id] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return True

    def _sample(self, choice: Choice, row: _Row) -> KeptSample:
        inputs = tuple(_tensor(name, array) for name, array in sorted(row.inputs.items()))
        digest = hashlib.sha256()
        for tensor in inputs:
            digest.update(f"{tensor.name}\x00{tensor.datatype}\x00{tensor.shape}\x00".encode())
            digest.update(tensor.data)
        return KeptSample(
            id=digest.hexdigest()[:32],
            model=self._served.model,
            release=self._served.release,
            deployment=self._served.deployment,
            artifact=self._served.artifact,
            time=row.time,
            why=choice.why,
            score=choice.score,
            likeness=choice.likeness,
            confidence=choice.confidence,
            inputs=inputs,
            outputs=tuple(_tensor(name, array) for name, array in sorted(row.outputs.items())),
        )


def _joined(rows: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _tensor(name: str, array: Array) -> SampleTensor:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return SampleTensor(
        name=name,
        datatype=cast("SampleDatatype", _NAMES[little.dtype]),
        shape=array.shape,
        data=np.ascontiguousarray(little).tobytes(),
    )
