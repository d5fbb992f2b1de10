"""Counts only each n-th row: frames of a camera that show the same scene are fewer observations than rows."""

from collections.abc import Callable, Mapping

from agent.runner.backends import Array
from agent.runner.bookkeeping import Observer
from agent.runner.request_facts import RequestFacts

Tensors = Mapping[str, Array]


class EveryNth:
    """Shows an observer the first row and each ``every``-th after it, whatever batches they come in."""

    def __init__(self, observer: Observer, every: int, measure: Callable[[Tensors, Tensors], int]) -> None:
        """``measure``: rows of a batch."""
        self._observer = observer
        self._every = every
        self._measure = measure
        self._until = 0
        """Rows that are still passed over."""

    def add(self, inputs: Tensors, outputs: Tensors, facts: RequestFacts, now: float) -> None:
        """Take what is to be counted of one answered batch."""
        rows, first = self._measure(inputs, outputs), self._until
        self._until = (first - rows) % self._every
        if first >= rows:
            return
        if rows > 1:
            inputs, outputs = self._cut(inputs, first), self._cut(outputs, first)
        self._observer.add(inputs, outputs, facts, now)

    def tick(self, now: float) -> None:
        """See :class:`Observer`."""
        self._observer.tick(now)

    def close(self, now: float) -> None:
        """See :class:`Observer`."""
        self._observer.close(now)

    def _cut(self, tensors: Tensors, first: int) -> Tensors:
        return {name: tensor[first :: self._every] for name, tensor in tensors.items() if tensor.ndim}
