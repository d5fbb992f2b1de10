"""The hub says in time what runs out, who renews it and how: on the page, in the API, in the audit log."""

from typing import Any

import pytest

from cloud_hub.hub import Hub
from tests.unit.cloud_hub.conftest import Clock
from tests.unit.cloud_hub.hub_world import People

DAY = 86_400.0


def lives(people: People) -> dict[str, dict[str, Any]]:
    return {life["name"]: life for life in people.ok("viewer", "GET", "/v1/trust")}


def test_a_new_hub_has_time(people: People, clock: Clock) -> None:
    found = lives(people)
    assert list(found)[:5] == ["root", "targets", "digits", "snapshot", "timestamp"]
    assert {life["severity"] for life in found.values()} == {None}
    assert found["digits"]["who"] == "2 of the approvers alice, bob, carol"
    assert found["root"]["who"] == "2 of the root holders root-1, root-2, root-3"
    assert found["root"]["expires"] - clock.now == pytest.approx(365 * DAY, abs=60)
    page = people.call("viewer", "GET", f"/releases?token={people.tokens['viewer']}").text
    assert "edgeward-hub approve digits --renew" in page


SOON = [
    (0.4, "timestamp", None),
    (0.6, "timestamp", "error"),
    (9, "snapshot", None),
    (11, "snapshot", "error"),
    (68, "digits", None),
    (71, "digits", "warning"),
    (84, "digits", "error"),
    (304, "root", None),
    (306, "root", "warning"),
    (306, "targets", "warning"),
    (352, "root", "error"),
    (3650 - 364, "the device authority's certificate", "warning"),
]


def test_it_says_so_before_it_is_too_late(people: People, clock: Clock) -> None:
    start = clock.now
    for days, name, severity in SOON:
        clock.now = start + days * DAY
        assert lives(people)[name]["severity"] == severity, (days, name)
        found = people.ok("viewer", "GET", "/v1/fleet")["findings"]
        said = [finding for finding in found if finding["what"].startswith(f"{name}: ")]
        assert [finding["severity"] for finding in said] == ([severity] if severity else [])
        assert all("To be renewed by" in finding["what"] for finding in said)


def test_the_audit_log_has_it_once(people: People, clock: Clock, hub: Hub) -> None:
    def noted() -> list[str]:
        lines = people.call("auditor", "GET", "/v1/audit/export").text.splitlines()
        return [line for line in lines if '"expiry-' in line and '"digits version 1"' in line]

    hub.note_expiry()
    assert noted() == []
    clock.now += 71 * DAY
    hub.note_expiry()
    hub.note_expiry()
    assert len(noted()) == 1
    assert "alice, bob, carol" in noted()[0]
    clock.now += 13 * DAY
    hub.note_expiry()
    assert len(noted()) == 2


def test_what_the_hub_signs_by_itself_is_renewed_by_itself(people: People, clock: Clock, hub: Hub) -> None:
    for _ in range(12):
        clock.now += DAY
        hub.refresh_timestamp()
    found = lives(people)
    assert (found["timestamp"]["severity"], found["snapshot"]["severity"]) == (None, None)
