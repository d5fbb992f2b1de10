import pytest

from agent.core.pace import Pace


def test_a_burst_waits_for_nothing_and_then_each_for_its_turn() -> None:
    pace = Pace(3, 2.0, now=100.0)
    assert [pace.take(100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 2.0, 4.0]


def test_what_was_not_used_comes_back_but_no_more_than_the_burst() -> None:
    pace = Pace(2, 1.0, now=0.0)
    assert [pace.take(0.0), pace.take(0.0)] == [0.0, 0.0]
    assert pace.take(0.5) == pytest.approx(0.5)
    assert [pace.take(1_000.0) for _ in range(3)] == [0.0, 0.0, 1.0]


def test_somebody_who_waits_as_told_is_held_to_the_pace() -> None:
    pace, now, began = Pace(20, 2.0, now=0.0), 0.0, []
    while now < 600.0:
        now += pace.take(now)
        began.append(now)
    assert len(began) == pytest.approx(20 + 600 / 2, abs=2)
