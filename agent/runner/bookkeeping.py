"""What is written down beside the request path: drift windows, predictions, samples. Whatever happens in it, no request fails."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from agent.runner.backends import Array
from agent.runner.request_facts import RequestFacts

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Looks at each batch that was answered; times are Unix seconds. What it raises is logged once and counted."""

    def add(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], facts: RequestFacts, now: float
    ) -> None:
        """Take one answered batch. The arrays are the request's own: what is kept must be copied."""

    def tick(self, now: float) -> None:
        """About once a second: what has become old enough."""

    def close(self, now: float) -> None:
        """The last word; may be said twice."""


class Bookkeeping:
    """Shows each answered batch to every observer."""

    def __init__(self, clock: Callable[[], float], observers: Mapping[str, Observer]) -> None:
        """``observers``: by what they are called in logs and counts."""
        self._clock = clock
        self._observers = tuple(observers.items())
        self._adders = tuple((name, observer.add) for name, observer in self._observers)
        self.errors: Counter[str] = Counter()
        """Calls that failed, by observer."""

    def add(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], facts: RequestFacts) -> None:
        """Take one answered batch."""
        now = self._clock()
        for name, add in self._adders:
            try:
                add(inputs, outputs, facts, now)
            except Exception:  # noqa: BLE001 (a request was answered well; its bookkeeping may not undo that)
                self._count_error(name)

    def tick(self) -> None:
        """Let each observer end what is old enough."""
        now = self._clock()
        for name, observer in self._observers:
            try:
                observer.tick(now)
            except Exception:  # noqa: BLE001 (as above)
                self._count_error(name)

    def close(self) -> None:
        """Let each observer say its last word."""
        now = self._clock()
        for name, observer in self._observers:
            try:
                observer.close(now)
            except Exception:  # noqa: BLE001 (as above)
                self._count_error(name)

    def _count_error(self, name: str) -> None:
        self.errors[name] += 1
        if self.errors[name] == 1:
            _log.exception("%s bookkeeping failed; further errors are only counted", name)
