import pytest

from agent.core.restart import RestartPolicy, RestartState, after_crash

POLICY = RestartPolicy(first_delay=0.5, longest_delay=3.0, stable=100.0, loop_crashes=3)


def crash(state: RestartState, served: float = 1.0) -> tuple[RestartState, float, bool]:
    restart = after_crash(POLICY, state, started=50.0, crashed=50.0 + served)
    return restart.state, restart.delay, restart.looping


def test_delays_double_up_to_the_longest_and_a_loop_is_called_one() -> None:
    state = RestartState()
    seen = []
    for _ in range(5):
        state, delay, looping = crash(state)
        seen.append((state.crashes, delay, looping))
    assert seen == [(1, 0.5, False), (2, 1.0, False), (3, 2.0, True), (4, 3.0, True), (5, 3.0, True)]


@pytest.mark.parametrize(("served", "crashes"), [(99.9, 5), (100.0, 1), (1e6, 1)])
def test_a_stable_time_is_forgiven(served: float, crashes: int) -> None:
    state, delay, looping = crash(RestartState(crashes=4), served)
    assert (state.crashes, looping) == (crashes, crashes == 5)
    assert delay == (0.5 if crashes == 1 else 3.0)


def test_a_crash_loop_of_years_overflows_nothing() -> None:
    state, delay, looping = crash(RestartState(crashes=10_000_000))
    assert (state.crashes, delay, looping) == (10_000_001, 3.0, True)


def test_defaults_start_at_once_and_never_wait_over_a_minute() -> None:
    first = after_crash(RestartPolicy(), RestartState(), started=0.0, crashed=1.0)
    late = after_crash(RestartPolicy(), RestartState(crashes=30), started=0.0, crashed=1.0)
    assert (first.delay, late.delay, late.looping) == (0.2, 60.0, True)
