from agent.core.degrade import DegradePolicy, Look, Move, begin, moved, observe, refused

POLICY = DegradePolicy(degrade_after=10.0, restore_after=100.0)


def test_a_break_in_between_begins_the_time_anew() -> None:
    standing = begin(0.0, POLICY)
    standing, _ = observe(standing, Look.BROKEN, 1.0, POLICY)
    standing, _ = observe(standing, Look.FINE, 9.0, POLICY)
    standing, _ = observe(standing, Look.BROKEN, 10.0, POLICY)
    standing, move = observe(standing, Look.BROKEN, 19.9, POLICY)
    assert move is Move.STAY
    standing, move = observe(standing, Look.BROKEN, 20.0, POLICY)
    assert move is Move.DEGRADE


def test_down_and_broken_are_one_reason_to_leave_the_chosen_variant() -> None:
    standing = begin(0.0, POLICY)
    standing, _ = observe(standing, Look.BROKEN, 1.0, POLICY)
    standing, _ = observe(standing, Look.DOWN, 5.0, POLICY)
    _, move = observe(standing, Look.BROKEN, 11.0, POLICY)
    assert move is Move.DEGRADE


def test_a_move_is_said_until_it_was_made() -> None:
    standing = begin(0.0, POLICY)
    standing, _ = observe(standing, Look.BROKEN, 1.0, POLICY)
    for now in (11.0, 12.0, 13.0):
        standing, move = observe(standing, Look.BROKEN, now, POLICY)
        assert move is Move.DEGRADE
    standing = moved(standing, 13.5, POLICY)
    _, move = observe(standing, Look.BROKEN, 14.0, POLICY)
    assert (standing.degraded, move) == (True, Move.STAY)


def test_a_refused_standby_is_tried_again_after_a_while() -> None:
    standing = begin(0.0, POLICY)
    standing, _ = observe(standing, Look.BROKEN, 1.0, POLICY)
    standing = refused(standing, 11.0, POLICY)
    assert observe(standing, Look.BROKEN, 110.9, POLICY)[1] is Move.STAY
    standing, move = observe(standing, Look.BROKEN, 111.0, POLICY)
    assert move is Move.DEGRADE
    assert refused(standing, 111.0, POLICY).not_before == 311.0


def test_a_standby_that_is_down_is_left_as_soon_as_the_chosen_variant_would_be() -> None:
    standing = moved(begin(0.0, POLICY), 11.0, POLICY)
    standing, _ = observe(standing, Look.DOWN, 12.0, POLICY)
    assert observe(standing, Look.DOWN, 21.9, POLICY)[1] is Move.STAY
    assert observe(standing, Look.DOWN, 22.0, POLICY)[1] is Move.RESTORE


def test_a_standby_that_is_broken_too_is_left_after_the_longest_wait() -> None:
    standing = moved(begin(0.0, POLICY), 11.0, POLICY)
    standing, _ = observe(standing, Look.BROKEN, 12.0, POLICY)
    assert observe(standing, Look.BROKEN, 3_210.0, POLICY)[1] is Move.STAY
    assert observe(standing, Look.BROKEN, 3_211.0, POLICY)[1] is Move.RESTORE


def test_a_return_that_held_begins_the_wait_anew() -> None:
    standing = moved(begin(0.0, POLICY), 11.0, POLICY)
    standing = moved(standing, 111.0, POLICY)
    soon = moved(standing, 111.0 + 99.0, POLICY)
    late = moved(standing, 111.0 + 100.0, POLICY)
    assert (soon.wait, late.wait) == (200.0, 100.0)
