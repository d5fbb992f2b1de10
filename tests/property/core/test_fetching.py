"""Which way next: whatever the ways do, a transfer ends, and no way is asked more often than it may be."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from agent.core.fetching import (
    FORGIVEN_BYTES,
    LONGEST_REST_SECONDS,
    Failure,
    Fetching,
    GiveUp,
    Pause,
    Use,
    arrived,
    begin,
    failed,
    next_step,
    paused,
    wrong_bytes,
)
from agent.protocol.state import Way

SIZE = 3 * FORGIVEN_BYTES
ORDERS: list[tuple[Way, ...]] = [
    ("http", "mqtt"),
    ("mqtt", "http"),
    ("http",),
    ("mqtt",),
    ("bundle", "http", "mqtt"),
]
COUNTED = [failure for failure in Failure if failure is not Failure.NO_ANSWER]


@dataclass
class Adversary:
    """Plays every way against the decisions; what it does is drawn."""

    data: st.DataObject
    order: tuple[Way, ...]
    tries: int
    may_be_away: bool = False
    now: float = 0.0
    have: int = 0
    uses: list[Way] = field(default_factory=list)
    wrong: int = 0
    pauses: list[Pause] = field(default_factory=list)

    def play(self, most: int) -> str:
        state = begin(self.order, self.tries)
        for _ in range(most):
            step = next_step(state, self.now)
            match step:
                case GiveUp(text):
                    assert all(way in text for way in self.order)
                    return "gave up"
                case Pause():
                    assert 0 <= step.at_least <= LONGEST_REST_SECONDS
                    self.pauses.append(step)
                    self.now += max(step.at_least, 1.0)
                    state = paused(state)
                case Use(way):
                    self.uses.append(way)
                    assert state.ways[way].failures < self.tries
                    assert not state.ways[way].dropped
                    came = self.data.draw(st.integers(0, SIZE - self.have))
                    self.have += came
                    state = arrived(state, way, came)
                    if self.have == SIZE and self.data.draw(st.booleans()):
                        return "fetched"
                    if self.have == SIZE:
                        self.have, self.wrong = 0, self.wrong + 1
                        sole = self.data.draw(st.booleans()) or state.alone
                        state = wrong_bytes(state, way, "other bytes", sole=sole)
                    else:
                        state = self.fail(state, way)
        return "goes on"

    def fail(self, state: Fetching, way: Way) -> Fetching:
        kinds = list(Failure) if self.may_be_away else COUNTED
        failure = self.data.draw(st.sampled_from(kinds))
        rest = self.data.draw(st.none() | st.floats(-10, 1e12)) if failure is Failure.BUSY else None
        return failed(state, way, failure, "why", now=self.now, rest_seconds=rest)


@given(st.data(), st.sampled_from(ORDERS), st.integers(1, 4))
def test_what_is_a_ways_own_fault_is_tried_a_bounded_number_of_times(
    data: st.DataObject, order: tuple[Way, ...], tries: int
) -> None:
    adversary = Adversary(data, order, tries)
    # Each whole file forgives at most three times; a wrong file comes at most once mixed and once a way, or twice from one.
    wrong_files = len(order) + 2
    bound = len(order) * tries * (3 * wrong_files + 1) + wrong_files
    assert adversary.play(most=3 * bound) in {"gave up", "fetched"}
    assert len(adversary.uses) <= bound
    assert adversary.wrong <= wrong_files


@given(st.data(), st.sampled_from(ORDERS))
def test_wrong_files_are_few_also_where_the_network_comes_and_goes(
    data: st.DataObject, order: tuple[Way, ...]
) -> None:
    adversary = Adversary(data, order, 3, may_be_away=True)
    adversary.play(most=200)
    assert adversary.wrong <= len(order) + 2


@given(st.integers(1, 40))
def test_a_network_that_is_away_is_waited_for_longer_and_longer_and_never_given_up(rounds: int) -> None:
    state = begin(("http", "mqtt"), 2)
    pauses: list[int] = []
    while len(pauses) < rounds:
        match next_step(state, 0.0):
            case Use(way):
                state = failed(state, way, Failure.NO_ANSWER, "no route", now=0.0)
            case Pause(attempt=attempt):
                pauses.append(attempt)
                state = paused(state)
            case GiveUp(text):
                raise AssertionError(text)
    assert pauses == list(range(rounds))


def test_new_bytes_shorten_the_next_pause() -> None:
    state = begin(("mqtt",), 2)
    for _ in range(3):
        state = paused(failed(state, "mqtt", Failure.NO_ANSWER, "no route", now=0.0))
    state = failed(arrived(state, "mqtt", 1), "mqtt", Failure.NO_ANSWER, "no route", now=0.0)
    assert next_step(state, 0.0) == Pause(attempt=0, at_least=0.0)


def test_the_other_way_has_its_turn_before_anybody_waits() -> None:
    state = failed(begin(("http", "mqtt"), 2), "http", Failure.NO_ANSWER, "cut", now=0.0)
    assert next_step(state, 0.0) == Use("mqtt")
    state = failed(state, "mqtt", Failure.REFUSED, "no", now=0.0)
    assert next_step(state, 0.0) == Pause(attempt=0, at_least=0.0)
    assert next_step(paused(state), 0.0) == Use("http")


def test_a_way_that_asked_for_time_is_left_alone_while_the_other_one_is_used() -> None:
    state = failed(begin(("http", "mqtt"), 5), "http", Failure.BUSY, "429", now=0.0, rest_seconds=100.0)
    for second in (1.0, 50.0, 99.0):
        assert next_step(state, second) == Use("mqtt")
        state = paused(failed(state, "mqtt", Failure.NO_ANSWER, "cut", now=second))
    assert next_step(state, 100.0) == Use("http")
    alone = failed(begin(("http",), 5), "http", Failure.BUSY, "429", now=0.0, rest_seconds=1e9)
    assert next_step(alone, 10.0) == Pause(attempt=0, at_least=LONGEST_REST_SECONDS - 10.0)


def test_who_sent_a_whole_wrong_file_is_not_asked_again() -> None:
    state = wrong_bytes(begin(("http", "mqtt"), 5), "http", "other bytes", sole=True)
    assert next_step(paused(state), 0.0) == Use("mqtt")
    state = wrong_bytes(state, "mqtt", "other bytes too", sole=True)
    assert next_step(paused(state), 0.0) == GiveUp(
        "http sent wrong bytes: other bytes; mqtt sent wrong bytes: other bytes too"
    )


def test_the_only_way_that_sent_wrong_bytes_is_asked_once_more() -> None:
    state = wrong_bytes(begin(("mqtt",), 5), "mqtt", "other bytes", sole=True)
    assert next_step(state, 0.0) == Use("mqtt")
    assert isinstance(next_step(wrong_bytes(state, "mqtt", "again", sole=True), 0.0), GiveUp)


def test_where_bytes_may_not_be_mixed_any_more_a_way_that_is_away_is_not_waited_for_for_ever() -> None:
    state = wrong_bytes(begin(("http", "mqtt"), 2), "mqtt", "other bytes", sole=False)
    assert next_step(state, 0.0) == Use("http"), "whoever it was: the other one first"
    for _ in range(20):
        match next_step(state, 0.0):
            case Use(way):
                state = failed(state, way, Failure.NO_ANSWER, "no route", now=0.0)
            case Pause():
                state = paused(state)
            case GiveUp():
                return
    raise AssertionError("it goes on for ever")
