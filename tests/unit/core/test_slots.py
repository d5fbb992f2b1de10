from typing import Any

import pytest

from agent.core.slots import HISTORY, Slots, commit, drop_candidate, swap_back


def test_commit_moves_candidate_to_active_and_active_to_previous(make: Any) -> None:
    before = Slots(active=make.installed(1), candidate=make.installed(2), floor=1, committed=(1,))
    after = commit(before)
    assert after == Slots(
        active=make.installed(2), candidate=None, previous=make.installed(1), floor=2, committed=(1, 2)
    )


def test_going_back_to_an_older_release_keeps_the_floor(make: Any) -> None:
    before = Slots(active=make.installed(3), candidate=make.installed(1), floor=3, committed=(1, 3))
    after = commit(before)
    assert after.active == make.installed(1)
    assert after.floor == 3
    assert after.committed == (3, 1)  # newest last, and none of them twice


def test_only_a_candidate_can_be_committed(make: Any) -> None:
    with pytest.raises(AssertionError, match="candidate"):
        commit(Slots(active=make.installed(1)))


def test_history_is_bounded_and_forgets_the_oldest(make: Any) -> None:
    slots = Slots()
    for release in range(1, HISTORY + 3):
        slots = commit(
            Slots(active=slots.active, candidate=make.installed(release), committed=slots.committed)
        )
    assert slots.committed == tuple(range(3, HISTORY + 3))


def test_swap_back_hands_over_and_keeps_nothing_to_go_back_to_twice(make: Any) -> None:
    before = Slots(active=make.installed(2), previous=make.installed(1), floor=2, committed=(1, 2))
    after = swap_back(before)
    assert (after.active, after.candidate, after.previous) == (make.installed(1), make.installed(2), None)
    assert (after.floor, after.committed) == (2, (1, 2))


def test_dropping_a_candidate_touches_nothing_that_was_committed(make: Any) -> None:
    kept = Slots(active=make.installed(2), previous=make.installed(1), floor=2, committed=(1, 2))
    with_candidate = Slots(
        active=kept.active, candidate=make.installed(3), previous=kept.previous, floor=2, committed=(1, 2)
    )
    assert drop_candidate(with_candidate) == kept


@pytest.mark.parametrize(("release", "allowed"), [(1, False), (2, True), (4, False), (5, True), (6, True)])
def test_the_floor_holds_except_for_what_was_committed_here(release: int, allowed: bool) -> None:  # noqa: FBT001 - a parameter
    assert Slots(floor=5, committed=(2, 5)).allows(release) is allowed


def test_a_fresh_device_allows_anything() -> None:
    assert Slots().allows(1)


def test_every_slots_files_are_referenced(make: Any) -> None:
    three = [make.installed(release) for release in (1, 2, 3)]
    slots = Slots(active=three[1], candidate=three[2], previous=three[0])
    assert slots.referenced() == {digest for release in three for digest in release.files}
    assert Slots().referenced() == frozenset()


def test_the_floor_itself_is_allowed_though_its_commit_is_forgotten() -> None:
    assert Slots(floor=5, committed=()).allows(5)
