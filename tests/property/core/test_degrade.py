"""Degrading never flaps faster than its policy, and comes back in the end."""

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.core.degrade import DegradePolicy, Look, Move, Standing, begin, moved, observe, refused

POLICIES = st.builds(
    DegradePolicy,
    degrade_after=st.floats(0.5, 20.0),
    restore_after=st.floats(1.0, 60.0),
)
STEPS = st.lists(
    st.tuples(st.floats(0.01, 5.0), st.sampled_from(list(Look)), st.booleans()), min_size=1, max_size=400
)

ROUNDING = 1e-6
"""Seconds; times are sums of floats."""


class Device:
    """Looks, and makes each move that its probe lets it make."""

    def __init__(self, policy: DegradePolicy) -> None:
        self.policy = policy
        self.now = 1_000.0
        self.standing: Standing = begin(self.now, policy)
        self.moves: list[tuple[float, Move, float]] = []
        """When, which, and the wait that held then."""
        self.attempts: list[float] = []

    def look(self, seconds: float, look: Look, *, passes: bool) -> None:
        self.now += seconds
        self.standing, move = observe(self.standing, look, self.now, self.policy)
        if move is Move.STAY:
            return
        self.attempts.append(self.now)
        if not passes:
            self.standing = refused(self.standing, self.now, self.policy)
            return
        self.moves.append((self.now, move, self.standing.wait))
        self.standing = moved(self.standing, self.now, self.policy)

    def until(self, reached: Callable[[], bool], look: Look, seconds: float = 1.0) -> float:
        begun = self.now
        while not reached():
            self.look(seconds, look, passes=True)
            assert self.now - begun < 10 * self.policy.longest_wait + 100, "never"
        return self.now - begun


@given(POLICIES, STEPS)
def test_moves_alternate_and_each_variant_is_given_its_time(
    policy: DegradePolicy, steps: list[tuple[float, Look, bool]]
) -> None:
    device = Device(policy)
    for seconds, look, passes in steps:
        device.look(seconds, look, passes=passes)
    for (before, first, _), (after, second, wait) in pairwise(device.moves):
        assert {first, second} == {Move.DEGRADE, Move.RESTORE}
        least = policy.degrade_after if second is Move.DEGRADE else min(wait, policy.degrade_after)
        assert after - before >= least - ROUNDING
    if device.moves:
        assert device.moves[0][1] is Move.DEGRADE


@given(
    POLICIES,
    st.lists(
        st.tuples(st.floats(0.01, 5.0), st.sampled_from([Look.FINE, Look.BROKEN]), st.booleans()),
        max_size=400,
    ),
)
def test_a_standby_that_is_up_keeps_serving_for_the_whole_wait(
    policy: DegradePolicy, steps: list[tuple[float, Look, bool]]
) -> None:
    device = Device(policy)
    for seconds, look, passes in steps:
        device.look(seconds, look, passes=passes)
    for (before, _, _), (after, move, wait) in pairwise(device.moves):
        if move is Move.RESTORE:
            assert after - before >= min(wait, policy.longest_wait) - ROUNDING
            assert min(wait, policy.longest_wait) >= policy.restore_after


@given(POLICIES, STEPS)
def test_refusals_are_never_closer_than_the_configured_wait(
    policy: DegradePolicy, steps: list[tuple[float, Look, bool]]
) -> None:
    device = Device(policy)
    for seconds, look, _ in steps:
        device.look(seconds, look, passes=False)
    assert not device.moves
    assert all(
        after - before >= policy.restore_after - ROUNDING for before, after in pairwise(device.attempts)
    )


@given(POLICIES, STEPS, st.sampled_from(list(Look)))
def test_whatever_came_before_and_however_the_standby_is_it_comes_back(
    policy: DegradePolicy, steps: list[tuple[float, Look, bool]], look: Look
) -> None:
    device = Device(policy)
    for seconds, seen, passes in steps:
        device.look(seconds, seen, passes=passes)
    if device.standing.degraded:
        pause = policy.longest_wait / 64
        took = device.until(lambda: not device.standing.degraded, look, pause)
        assert took <= 2 * policy.longest_wait + 2 * pause


@given(POLICIES, STEPS)
def test_what_is_fine_is_never_left(policy: DegradePolicy, steps: list[tuple[float, Look, bool]]) -> None:
    device = Device(policy)
    for seconds, _, passes in steps:
        device.look(seconds, Look.FINE, passes=passes)
    assert not device.attempts


@given(POLICIES)
def test_the_wait_doubles_with_each_return_that_does_not_hold_and_is_bounded(policy: DegradePolicy) -> None:
    device = Device(policy)
    waits = []
    step = min(policy.degrade_after, policy.restore_after) / 8
    # A variant that breaks as soon as it serves: as often as the policy lets it.
    for _ in range(9):
        device.until(lambda: device.standing.degraded, Look.BROKEN, step)
        waits.append(device.standing.wait)
        device.until(lambda: not device.standing.degraded, Look.FINE, max(step, device.standing.wait / 8))
    assert waits[0] == policy.restore_after
    # The first look sees that it is broken, and the one that acts may come almost a step late.
    if policy.degrade_after + 2 * step < policy.restore_after:
        assert waits[1:6] == [policy.restore_after * 2**n for n in range(1, 6)]
    assert max(waits) <= policy.longest_wait
