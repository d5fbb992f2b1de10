"""What a device says of its trust, and when: expiry by level, withdrawal, clocks that are behind or ahead."""

import subprocess
import time
from pathlib import Path

import pytest

from agent.core.trust_watch import DAY, EARLY_DAYS, LATE_DAYS, TrustFacts, blocking, clock_words, warnings
from agent.core.trusted_time import BUILD_TIME, HubClock, trusted_time
from agent.protocol.state import ModelRelease, RoleExpiry

NOW = BUILD_TIME + 100 * DAY
ROOT = Path(__file__).parents[3]


def facts(
    *expiry: tuple[str, float],
    system: float = NOW,
    hub: float = NOW - 600,
    heard: float | None = NOW - 60,
    withdrawn: tuple[ModelRelease, ...] = (),
) -> TrustFacts:
    """``expiry``: role, days from NOW."""
    roles = tuple(RoleExpiry(role=role, expires=NOW + days * DAY) for role, days in expiry)
    return TrustFacts(expiry=roles, withdrawn=withdrawn, system=system, hub=hub, heard=heard)


def told(known: TrustFacts) -> list[tuple[str, str, bool]]:
    return [(each.key, each.reason.code, each.urgent) for each in warnings(known)]


def test_nothing_is_said_while_all_is_well() -> None:
    assert (
        told(
            facts(
                ("root", 300),
                ("targets", 300),
                ("timestamp", 0.5),
                ("snapshot", 9),
                ("digits", 80),
                ("director", 20),
            )
        )
        == []
    )


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (EARLY_DAYS + 0.1, None),
        (EARLY_DAYS, ("digits:early", "role-expires", False)),
        (LATE_DAYS + 0.1, ("digits:early", "role-expires", False)),
        (LATE_DAYS, ("digits:late", "role-expires", True)),
        (0.01, ("digits:late", "role-expires", True)),
        (0, ("digits:expired", "role-expired", True)),
        (-50, ("digits:expired", "role-expired", True)),
    ],
)
def test_an_offline_role_is_warned_of_twice_before_it_expires(
    days: float, expected: tuple[str, str, bool] | None
) -> None:
    assert told(facts(("digits", days))) == ([] if expected is None else [expected])


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "director"])
def test_an_online_role_is_worth_a_word_only_when_it_was_not_renewed(role: str) -> None:
    assert told(facts((role, 0.01))) == []
    assert told(facts((role, -0.01))) == [(f"{role}:expired", "role-expired", True)]


def test_the_words_say_who_has_to_do_something_and_by_when() -> None:
    (early,) = warnings(facts(("digits", 13.5)))
    assert "the approval of digits expires at" in early.reason.text
    assert "in 13 days" in early.reason.text
    assert "Digits's approvers have to sign it anew" in early.reason.text
    (root,) = warnings(facts(("root", 1.5)))
    assert "in 1 day;" in root.reason.text
    assert "root holders" in root.reason.text


def test_a_withdrawn_release_is_urgent_and_named() -> None:
    (warned,) = warnings(facts(withdrawn=(ModelRelease(model="digits", release=3),)))
    assert (warned.reason.code, warned.urgent) == ("release-withdrawn", True)
    assert "digits release 3 was withdrawn by its approvers" in warned.reason.text


def test_a_clock_in_1970_is_told_and_does_not_count() -> None:
    known = facts(("digits", 80), system=0.0)
    assert known.now == known.hub
    (warned,) = warnings(known)
    assert (warned.reason.code, warned.urgent) == ("clock-behind", False)
    assert "1970-01-01 00:00 UTC" in warned.reason.text


def test_a_clock_ahead_of_a_hub_that_was_just_heard_is_told() -> None:
    known = facts(("timestamp", 0.5), system=NOW + 2_000 * DAY, heard=NOW + 2_000 * DAY - 60)
    assert told(known) == [("clock-ahead", "clock-ahead", True), ("timestamp:expired", "role-expired", True)]
    assert "if the clock is wrong, set it" in clock_words(known)


def test_a_device_that_was_away_for_long_has_no_wrong_clock() -> None:
    assert told(facts(("timestamp", 200), system=NOW + 90 * DAY, heard=None)) == []
    assert clock_words(facts(system=NOW + 90 * DAY, heard=NOW)) == ""


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "director", "digits"])
def test_what_expired_since_it_was_verified_blocks_installing(role: str) -> None:
    assert blocking(facts((role, 0.01)), "digits") is None
    reason = blocking(facts((role, 0)), "digits")
    assert reason is not None
    assert reason.code == "expired"
    assert "what serves goes on" in reason.text


def test_another_models_role_blocks_nothing() -> None:
    assert blocking(facts(("faces", -1), ("digits", 5)), "digits") is None


def test_a_clock_ahead_is_named_where_it_blocks() -> None:
    reason = blocking(facts(("digits", 80), system=NOW + 900 * DAY, heard=NOW + 900 * DAY), "digits")
    assert reason is not None
    assert "this device's clock says" in reason.text


def test_trusted_time_never_takes_less_than_the_build() -> None:
    assert trusted_time(0.0, 0.0) == BUILD_TIME


def test_the_build_time_is_near_the_newest_commit_and_not_in_the_future() -> None:
    assert time.time() >= BUILD_TIME
    found = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        pytest.skip("not a git checkout: a release's archive has its build time in it")
    assert abs(float(found.stdout) - BUILD_TIME) < 120 * DAY, (
        "set BUILD_TIME in agent/core/trusted_time.py anew"
    )


def test_hub_signed_time_goes_on_and_is_never_taken_back_by_an_older_word() -> None:
    clock = HubClock()
    assert clock.now(500.0) == 0.0
    clock.note(NOW, 500.0)
    assert clock.now(560.0) == NOW + 60
    clock.note(NOW + 30, 560.0)
    assert clock.now(560.0) == NOW + 60
    clock.note(NOW + 90, 560.0)
    assert clock.now(570.0) == NOW + 100
