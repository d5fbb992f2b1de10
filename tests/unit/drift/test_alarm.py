from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drift import alarm
from agent.drift.alarm import AlarmState
from agent.drift.levels import LEVELS, SEVERITY
from agent.protocol.drift import Alarm, DriftPolicy, VerdictLevel

SHORT: dict[str, VerdictLevel] = {"o": "ok", "w": "warning", "d": "drift", "i": "insufficient data"}
POLICY = DriftPolicy(persistence=2, recovery=3)


def follow(verdicts: Sequence[VerdictLevel], policy: DriftPolicy = POLICY) -> list[AlarmState]:
    states, state = [], AlarmState()
    for number, verdict in enumerate(verdicts):
        state = alarm.step(state, verdict, 100.0 + number, policy)
        states.append(state)
    return states


def levels(verdicts: str, policy: DriftPolicy = POLICY) -> str:
    return "".join(state.level[0] for state in follow([SHORT[one] for one in verdicts], policy))


@pytest.mark.parametrize(
    ("verdicts", "expected", "why"),
    [
        ("o", "o", "one good window is no alarm"),
        ("i", "i", "nothing is known yet"),
        ("odo", "ooo", "one bad window raises nothing"),
        ("odd", "ood", "two in a row do"),
        ("dododo", "oooooo", "in a row means in a row"),
        ("ww", "ow", "warnings raise a warning"),
        ("wd", "ow", "drift is at least a warning, and drift has come once"),
        ("wdd", "owd", "and twice"),
        ("ddo", "odd", "one good window clears nothing"),
        ("ddooo", "oddd" + "o", "three do"),
        ("ddoodooo", "oddddddo", "a bad one in between starts the count again"),
        ("ddwww", "odddw", "under drift, still a warning"),
        ("ddwwwooo", "odddwwwo", "and then none"),
        ("ddwwo", "odddw", "a good window counts for the recovery of drift too, and once for that of the warning"),
        ("did", "ood", "a window without data is no evidence against"),
        ("ddiiiii", "oddd" + "ddd", "an alarm is not cleared by silence"),
        ("oii", "ooo", "health is believed for a while"),
        ("oiii", "oooi", "but not for ever"),
        ("oiiio", "oooio", "until there is data again"),
        ("iid", "iio", "the first window with data begins the count"),
    ],
)  # fmt: skip
def test_the_table(verdicts: str, expected: str, why: str) -> None:
    assert levels(verdicts) == expected, why


def test_one_window_is_enough_where_the_policy_says_so() -> None:
    assert levels("dow", DriftPolicy(persistence=1, recovery=1)) == "dow"


def test_it_says_since_when_and_for_how_many_windows() -> None:
    told = [alarm.told(state) for state in follow([SHORT[one] for one in "odddooo"])]
    assert told[1] == Alarm(level="ok", since=100.0, windows=2)
    assert told[2] == Alarm(level="drift", since=102.0, windows=1)
    assert told[5] == Alarm(level="drift", since=102.0, windows=4)
    assert told[6] == Alarm(level="ok", since=106.0, windows=1)


VERDICTS = st.lists(st.sampled_from(LEVELS), max_size=40)


@given(verdicts=VERDICTS, persistence=st.integers(1, 5), recovery=st.integers(1, 5))
def test_what_holds_for_any_windows(verdicts: list[VerdictLevel], persistence: int, recovery: int) -> None:
    policy = DriftPolicy(persistence=persistence, recovery=recovery)
    states = [AlarmState(), *follow(verdicts, policy)]
    for end, state in enumerate(states):
        known = [SEVERITY[one] for one in verdicts[:end] if one != "insufficient data"]
        warning, drift = state.latches
        assert warning.raised or not drift.raised
        if state.level in alarm.LATCHED:  # it was raised by windows in a row, once
            at_least = [severity >= SEVERITY[state.level] for severity in known]
            runs = "".join("x" if one else " " for one in at_least).split()
            assert max(map(len, runs)) >= persistence
        if len(known) >= persistence and min(known[-persistence:]) >= SEVERITY["drift"]:
            assert state.level == "drift"
        if len(known) >= recovery and max(known[-recovery:]) == SEVERITY["ok"]:
            assert state.level in {"ok", "insufficient data"}
    if verdicts:
        assert sum(state.windows == 1 for state in states) >= 1
