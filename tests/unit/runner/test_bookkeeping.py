import logging
from collections.abc import Mapping

import numpy as np
import pytest

from agent.runner.backends import Array
from agent.runner.bookkeeping import Bookkeeping
from agent.runner.request_facts import NO_FACTS, RequestFacts

X = {"x": np.zeros((1, 2), np.float32)}


class Seen:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.fails = False

    def add(
        self, inputs: Mapping[str, Array], _outputs: Mapping[str, Array], facts: RequestFacts, now: float
    ) -> None:
        self._say(f"add {sorted(inputs)} {facts.id} {now}")

    def tick(self, now: float) -> None:
        self._say(f"tick {now}")

    def close(self, now: float) -> None:
        self._say(f"close {now}")

    def _say(self, what: str) -> None:
        if self.fails:
            raise OSError("nobody reads")
        self.said.append(what)


def test_every_observer_sees_every_batch_with_what_its_request_says() -> None:
    first, second, now = Seen(), Seen(), [1.0]
    books = Bookkeeping(lambda: now[0], {"first": first, "second": second})
    books.add(X, {}, RequestFacts("r-1"))
    now[0] = 2.0
    books.tick()
    books.close()
    assert first.said == second.said == ["add ['x'] r-1 1.0", "tick 2.0", "close 2.0"]


def test_an_observer_that_fails_is_logged_once_counted_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, whole = Seen(), Seen()
    broken.fails = True
    books = Bookkeeping(lambda: 0.0, {"broken": broken, "whole": whole})
    with caplog.at_level(logging.ERROR):
        books.add(X, {}, NO_FACTS)
        books.tick()
        books.close()
    assert books.errors == {"broken": 3}
    assert len(whole.said) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "broken bookkeeping failed; further errors are only counted"
    ]
    broken.fails = False
    books.add(X, {}, NO_FACTS)
    assert broken.said
    assert books.errors == {"broken": 3}
