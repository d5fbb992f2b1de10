"""Windows on the device: the request path copies rows into a ring, batches of them are counted beside it."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from agent.drift.binning import Binner, Floats, Repeats
from agent.drift.estimate import Estimator
from agent.drift.signals import Extractor, TensorKey, Tensors
from agent.drift.verdict import Judge, Judgement
from agent.drift.views import Array
from agent.drift.watch import Watch
from agent.protocol.drift import DriftReference, DriftWindow, SignalVerdict

RING_ROWS = 256
"""Rows held back before they are counted together."""

RING_BYTES = 256 * 1024
"""… or this many bytes of them, so that images do not fill the memory of the device."""


INCOMPLETE = "Incomplete: whoever served this ended before the window was closed."


class Identity(Struct, frozen=True, kw_only=True):
    """What served the requests of a window."""

    model: str
    release: int
    deployment: str
    artifact: str
    """SHA-256 of the model file."""
    slice: str | None = None
    """As in :class:`agent.protocol.drift.DriftWindow`."""


class ClosedWindow(Struct, frozen=True, kw_only=True):
    """A window, and what does not leave the device with it."""

    window: DriftWindow
    signals: dict[str, SignalVerdict]
    state: bytes = b""
    """Of the alarm and the sequential detector, for the builder that comes after a restart; opaque."""


class _Prepared(NamedTuple):
    extractor: Extractor
    binner: Binner
    judge: Judge
    estimator: Estimator


@lru_cache(maxsize=1)
def _prepared(reference: DriftReference) -> _Prepared:
    """What keeps nothing of a window, and so is one for all slices: it takes 0.4 MiB at 64 signals."""
    return _Prepared(
        extractor=Extractor(reference.signals, reference.embeddings),
        binner=Binner(reference.signals),
        judge=Judge(reference),
        estimator=Estimator(reference),
    )


class WindowBuilder:
    """Counts the requests of one runner into windows.

    Not thread-safe, nor are two builders of one reference beside each other: they belong to the runner's loop.

    The tensors of a row are copied as they are, in their own dtype (quantised ones too, so the reference must be made
    from the same representation). The ring is laid out on the first batch, and again when shape or dtype change.

    A slice's builder has no rows of its own: the whole's hands over their values (``also``), which it counts by
    :meth:`expect` and :meth:`take`.
    """

    def __init__(
        self,
        identity: Identity,
        reference: DriftReference,
        *,
        state: bytes = b"",
        also: Callable[[Floats], None] | None = None,
    ) -> None:
        """``state``: :attr:`ClosedWindow.state` of the newest window before, empty where there is none.

        ``also``: is given the values of the rows each time some are counted, shape (rows, signals), in their order.
        """
        self._also = also
        self._identity = identity
        self._full, self._old = reference.policy.window_rows, reference.policy.window_seconds
        self._extractor, self._binner, self._judge, self._estimator = _prepared(reference)
        self._watch = Watch(reference, state)
        self._counts = np.zeros(self._binner.size, dtype=np.int64)
        self._repeats = Repeats(len(reference.signals))
        self._ring = _Ring(self._extractor.tensors)
        self._put = self._ring.put
        self._rows = 0
        self._looked = 0
        """Rows at the last look at it while it was open."""
        self._opened = 0.0

    def has_news(self, now: float, seconds: float) -> bool:
        """Whether the open window has rows that no :meth:`so_far` told, and was opened so long before ``now``."""
        return self._rows > self._looked and abs(now - self._opened) >= seconds  # a clock may be put back

    @property
    def rows(self) -> int:
        """Rows in the open window."""
        return self._rows

    @property
    def forgot(self) -> str | None:
        """Why the state that was given was of no use; None where it was."""
        return self._watch.problem

    def add(self, inputs: Tensors, outputs: Tensors, now: float) -> bool:
        """Take a batch: tensors by name, each of shape (rows, …), already answered; ``now`` in Unix seconds.

        Gives what :meth:`due` would. Tensors without a signal are not looked at. NaN and infinities are data (they are counted apart).

        Raises:
            SignalError: a tensor is absent, not numeric, or of another number of rows. Nothing was taken.
                :func:`agent.drift.check_tensors` finds this at load, before there is a request.
        """
        rows = self._put(inputs, outputs)
        if rows is None:
            rows = self._add_slowly(inputs, outputs)
        before, opened = self._rows, self._opened
        if not before or now < opened:
            self.expect(rows, now)
            return self.due(now)
        self._rows = before = (
            before + rows
        )  # as :meth:`expect` and :meth:`due`, without calls for each request
        return before >= self._full or now - opened >= self._old

    def expect(self, rows: int, now: float) -> None:
        """``rows`` more are in the window, whose values are counted later."""
        if rows and (not self._rows or now < self._opened):
            self._opened = now  # the first row, or a clock that was set back
        self._rows += rows

    def take(self, values: Floats) -> None:
        """Count rows that were expected; shape (rows, signals)."""
        self._counts += self._binner.count(values)
        self._repeats.add(values)

    def flush(self) -> None:
        """Count what the ring holds; the runner may call it when it has nothing else to do."""
        held = self._ring.take()
        if held is not None:
            values = self._extractor.values(held)
            self.take(values)
            if self._also is not None:
                self._also(values)

    def due(self, now: float) -> bool:
        """Whether the window should be closed: enough rows, or old enough and not empty. ``now``: Unix seconds."""
        return self._rows >= self._full or (now - self._opened >= self._old and self._rows > 0)

    def close(self, now: float) -> ClosedWindow | None:
        """Judge the window as it is and open the next one; None where it has no row. ``now``: Unix seconds.

        A window may hold more than ``window_rows`` by the rest of its last batch.
        """
        self.flush()
        if not self._rows:
            return None
        found = self._as_it_is(now)
        judgement = Judgement(verdict=found.window.verdict, signals=found.signals)
        alarm = self._watch.see(judgement, self._counts, found.window.closed)
        closed = replace(found, window=replace(found.window, alarm=alarm), state=self._watch.state())
        self._counts[:] = 0
        self._repeats.counts[:] = 0
        self._rows = self._looked = 0
        return closed

    def so_far(self, now: float) -> ClosedWindow | None:
        """The window as it is, marked as incomplete, which stays open; None where it has no row. ``now``: Unix seconds."""
        self.flush()
        if not self._rows:
            return None
        self._looked = self._rows
        found = self._as_it_is(now)
        verdict = replace(found.window.verdict, reason=f"{INCOMPLETE} {found.window.verdict.reason}")
        return replace(found, window=replace(found.window, incomplete=True, verdict=verdict))

    def _as_it_is(self, now: float) -> ClosedWindow:
        signals = self._binner.split(self._counts, self._repeats.counts)
        judgement = self._judge.judgement(signals, self._rows)
        accuracy = self._estimator.estimate(signals)
        window = DriftWindow(
            model=self._identity.model,
            release=self._identity.release,
            deployment=self._identity.deployment,
            artifact=self._identity.artifact,
            opened=self._opened,
            closed=max(now, self._opened),
            rows=self._rows,
            signals=signals,
            verdict=judgement.verdict,
            slice=self._identity.slice,
            estimate=accuracy.estimate,
            estimate_off=accuracy.off,
        )
        return ClosedWindow(window=window, signals=judgement.signals)

    def _add_slowly(self, inputs: Tensors, outputs: Tensors) -> int:
        """A batch that does not fit in the ring: new layout, full ring, or larger than the ring altogether."""
        tensors: dict[TensorKey, Array] = {
            (source, name): (inputs if source == "input" else outputs)[name]
            for source, name in self._extractor.tensors
            if name in (inputs if source == "input" else outputs)
        }
        rows = self._extractor.check(tensors)
        self.flush()
        self._ring.lay_out(tensors)
        for start in range(0, rows, self._ring.capacity):
            self.flush()
            part = slice(start, start + self._ring.capacity)
            self._put(_cut(inputs, part), _cut(outputs, part))
        return rows


def _cut(tensors: Tensors, rows: slice) -> dict[str, Array]:
    return {name: tensor[rows] for name, tensor in tensors.items() if tensor.ndim}


class _Ring:
    """Preallocated rows of each tensor; filled to the end, then taken whole."""

    def __init__(self, keys: tuple[TensorKey, ...]) -> None:
        self._keys = keys
        self._buffers: list[NDArray[np.generic]] = []
        self._places: list[tuple[bool, str, NDArray[np.generic], np.dtype[np.generic], tuple[int, ...]]] = []
        """From the inputs or else the outputs, name, buffer, dtype, shape of a batch of one row."""
        self._layout: list[tuple[np.dtype[np.generic], tuple[int, ...]]] = []
        self._filled = 0
        self.capacity = 0

    def put(self, inputs: Tensors, outputs: Tensors) -> int | None:
        """Copy one batch and give its rows; None, and nothing copied, where it does not fit as it is.

        This runs for every request, so the usual one, a single row, is compared with a shape made before.
        """
        start, rows = self._filled, -1
        for from_input, name, buffer, dtype, one_row in self._places:
            array = (inputs if from_input else outputs).get(name)
            # What was copied when one of several does not fit lies beyond the filled rows, and is overwritten.
            if array is None or (array.dtype is not dtype and array.dtype != dtype):
                return None
            shape = array.shape
            if shape == one_row:
                if rows not in {-1, 1} or start >= self.capacity:
                    return None
                rows = 1
                buffer[start] = array
                continue
            if not shape or shape[1:] != one_row[1:] or rows not in {-1, shape[0]}:
                return None
            rows = shape[0]
            if start + rows > self.capacity:
                return None
            buffer[start : start + rows] = array
        if rows < 0:
            return None
        self._filled = start + rows
        return rows

    def take(self) -> dict[TensorKey, Array] | None:
        """The rows held, as views that are valid until the next ``put``; None where there are none."""
        if not self._filled:
            return None
        held = {key: buffer[: self._filled] for key, buffer in zip(self._keys, self._buffers, strict=True)}
        self._filled = 0
        return held

    def lay_out(self, tensors: dict[TensorKey, Array]) -> None:
        layout = [(tensors[key].dtype, tensors[key].shape[1:]) for key in self._keys]
        if layout == self._layout:
            return
        row_bytes = sum(tensors[key][:1].nbytes or 1 for key in self._keys)
        self.capacity = max(1, min(RING_ROWS, RING_BYTES // row_bytes))
        self._layout = layout
        self._buffers = [np.empty((self.capacity, *shape), dtype=dtype) for dtype, shape in layout]
        self._places = [
            (source == "input", name, buffer, dtype, (1, *shape))
            for (source, name), buffer, (dtype, shape) in zip(self._keys, self._buffers, layout, strict=True)
        ]
