"""The error matrix, made from the update machine's table: a real error for each event that says that something failed."""

import shutil

import pytest

from agent.core import events
from agent.core.update_machine import TRANSITIONS
from agent.protocol.state import Phase
from tests.fault.fleet.errors import FAULTS
from tests.fault.fleet.matrix import RUNNING, Matrix
from tests.fault.fleet.traps import RELEASE, newest
from tests.support.fleet import served_release

NO_ERROR = {
    events.Accepted,
    events.Steady,
    events.Fetched,
    events.Permitted,
    events.ProbePassed,
    events.Activated,
    events.ProbationPassed,
    events.RolledBack,
    events.Superseded,
    events.RollbackRequested,
}
ELSEWHERE = {events.VariantRejected}
"""Needs a release of several variants, which the recipe of these fleets does not make: ``tests/integration/service/test_variants.py``
has a real runner refuse one."""

pytestmark = [
    pytest.mark.skipif(
        shutil.which("strace") is None, reason="needs strace, which holds processes and fails their calls"
    ),
    pytest.mark.timeout(400),
]


def test_no_failure_of_the_table_escapes() -> None:
    heard = {event for phase, event in TRANSITIONS if phase in RUNNING}
    assert heard - NO_ERROR - ELSEWHERE == {fault.event for fault in FAULTS.values()} - {None}


@pytest.mark.parametrize("name", FAULTS)
def test_it_ends_with_its_reason_and_serves(ended: Matrix, name: str) -> None:
    fault, agent = FAULTS[name], ended.agents[name]
    report = newest(agent)
    assert report.phase is fault.ends
    code = None if report.reason is None else report.reason.code
    assert code in (fault.codes or {None}), report.reason
    assert served_release(agent) == (RELEASE if fault.ends is Phase.COMMITTED else 1)


def test_the_hub_sees_one_outcome_and_its_reason(ended: Matrix) -> None:
    ended.check_outcomes()


def test_every_error_ended_and_every_device_serves(ended: Matrix, request: pytest.FixtureRequest) -> None:
    ended.check_ends(list(FAULTS), request, "error matrix")
