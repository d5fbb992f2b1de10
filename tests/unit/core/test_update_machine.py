"""One run after the other through the machine: what each step records, commands and refuses."""

from typing import Any

import pytest
from msgspec.structs import replace

from agent.core.commands import (
    AwaitPermission,
    Command,
    CommitRelease,
    DiscardCandidate,
    FetchRelease,
    ProbeCandidate,
    ReportOutcome,
    ReportReversal,
    RestorePrevious,
    ServeActive,
)
from agent.core.errors import IllegalEventError, NothingToRollBackToError
from agent.core.events import (
    Accepted,
    AlreadyActive,
    Assigned,
    BytesLost,
    Event,
    Fetched,
    FetchFailed,
    NotInstallable,
    Permitted,
    ProbationFailed,
    ProbationPassed,
    ProbeFailed,
    ProbePassed,
    Reported,
    RollbackRequested,
    RolledBack,
    Steady,
    Superseded,
    VariantRejected,
)
from agent.core.model_state import ModelState
from agent.core.update_machine import (
    ENDED_KEPT,
    STARTS_IN_A_ROW,
    STARTS_IN_ALL,
    recover,
    request_rollback,
    step,
)
from agent.protocol.state import Acceptance, Measurement, Phase, Reason, VariantPolicy

WHY = Reason(code="first", text="the first reason")
LATER = Reason(code="later", text="a later reason")
MEASURED = Measurement(
    variant="onnx-int8",
    artifact="a" * 64,
    size_bytes=1,
    p50_ms=1,
    p99_ms=2,
    peak_memory_mib=3,
    golden_max_error=0,
    golden_class_agreement=1,
    budget_p99_ms=10,
    budget_memory_mib=10,
)


def kinds(commands: tuple[Command, ...]) -> list[type[Command]]:
    return [type(command) for command in commands]


def run(state: ModelState, *events: Event) -> ModelState:
    for now, event in enumerate(events, start=100):
        state, _ = step(state, event, float(now))
    return state


@pytest.fixture
def fetching(make: Any) -> ModelState:
    return run(make.committed(1), Assigned(deployment="d2", assignment=make.assigned(2)))


@pytest.fixture
def ready(make: Any, fetching: ModelState) -> ModelState:
    return run(fetching, Fetched(deployment="d2", candidate=make.installed(2)))


@pytest.fixture
def probing(ready: ModelState) -> ModelState:
    return run(ready, Permitted(deployment="d2"))


def test_what_is_fetched_waits_for_permission_with_its_bytes_in_the_slot(
    make: Any, fetching: ModelState
) -> None:
    state, commands = step(fetching, Fetched(deployment="d2", candidate=make.installed(2)), 5.0)
    assert (state.phase, state.slots.candidate) == (Phase.READY, make.installed(2))
    assert commands == (AwaitPermission(deployment="d2", candidate=make.installed(2), refetched=False),)
    state, commands = step(state, Permitted(deployment="d2"), 6.0)
    assert commands == (ProbeCandidate(deployment="d2", candidate=make.installed(2), tried=()),)


def test_bytes_lost_while_it_waits_are_fetched_again_once(make: Any, ready: ModelState) -> None:
    lost = BytesLost(deployment="d2", reason=WHY)
    again, commands = step(ready, lost, 5.0)
    assert (again.phase, again.slots.candidate) == (Phase.FETCHING, None)
    assert kinds(commands) == [DiscardCandidate, FetchRelease]
    second, commands = step(again, Fetched(deployment="d2", candidate=make.installed(2)), 6.0)
    assert commands == (AwaitPermission(deployment="d2", candidate=make.installed(2), refetched=True),)
    with pytest.raises(IllegalEventError, match="lost once before"):
        step(second, lost, 7.0)
    ended, commands = step(second, NotInstallable(deployment="d2", reason=LATER), 7.0)
    assert (ended.phase, ended.slots.candidate, kinds(commands)) == (
        Phase.REFUSED,
        None,
        [DiscardCandidate, ReportOutcome],
    )


@pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.READY, Phase.PROBING])
def test_before_it_serves_a_superseded_run_ends_at_once(
    make: Any, phase: Phase, fetching: ModelState
) -> None:
    assert fetching.deployment is not None
    state = replace(
        fetching,
        deployment=replace(fetching.deployment, phase=phase),
        slots=replace(fetching.slots, candidate=make.installed(2)),
    )
    after, commands = step(state, Superseded(deployment="d2", reason=WHY), 5.0)
    assert (after.phase, after.slots.candidate, kinds(commands)) == (
        Phase.SUPERSEDED,
        None,
        [DiscardCandidate, ReportOutcome],
    )


@pytest.mark.parametrize("phase", [Phase.ACTIVATING, Phase.PROBATION])
def test_once_it_serves_a_superseded_run_is_undone_and_ends_superseded(make: Any, phase: Phase) -> None:
    before = make.committed(1)
    slots = replace(before.slots, candidate=make.installed(2))
    state = make.at(phase, deployment="d2", release=2, slots=slots, ended=("d1",))
    undoing, commands = step(state, Superseded(deployment="d2", reason=WHY), 5.0)
    assert (undoing.phase, kinds(commands)) == (Phase.ROLLING_BACK, [RestorePrevious])
    after, commands = step(undoing, RolledBack(deployment="d2"), 6.0)
    assert (after.phase, after.slots) == (Phase.SUPERSEDED, before.slots)
    assert after.deployment is not None
    assert (after.deployment.outcome, after.deployment.reason) == (Phase.SUPERSEDED, WHY)
    assert kinds(commands) == [DiscardCandidate, ReportOutcome]


def test_a_failed_fetch_and_a_failed_probe_tidy_up_and_report(
    fetching: ModelState, probing: ModelState
) -> None:
    failed, commands = step(fetching, FetchFailed(deployment="d2", reason=WHY), 5.0)
    assert (failed.phase, kinds(commands)) == (Phase.REFUSED, [DiscardCandidate, ReportOutcome])
    event = ProbeFailed(deployment="d2", reason=WHY, measurement=MEASURED)
    failed, commands = step(probing, event, 5.0)
    assert failed.deployment is not None
    assert (failed.phase, failed.deployment.measurement) == (Phase.REFUSED, MEASURED)
    assert failed.slots.candidate is None
    assert commands[0] == DiscardCandidate(deployment="d2", candidate=probing.slots.candidate)


def test_what_the_probe_measured_is_kept(probing: ModelState) -> None:
    after = run(probing, ProbePassed(deployment="d2", measurement=MEASURED))
    assert after.deployment is not None
    assert after.deployment.measurement == MEASURED


def test_a_refused_variant_is_put_away_before_another_is_fetched(make: Any, probing: ModelState) -> None:
    again, commands = step(probing, VariantRejected(deployment="d2", reason=WHY), 5.0)
    assert kinds(commands) == [DiscardCandidate, FetchRelease]
    assert (again.phase, again.slots.candidate) == (Phase.FETCHING, None)
    (_, fetch) = commands
    assert isinstance(fetch, FetchRelease)
    assert fetch.tried == ("onnx-int8",)
    second = replace(make.installed(2), variant="onnx-fp32")
    waiting = run(again, Fetched(deployment="d2", candidate=second))
    probing_second, commands = step(waiting, Permitted(deployment="d2"), 6.0)
    assert commands == (ProbeCandidate(deployment="d2", candidate=second, tried=("onnx-int8",)),)
    exhausted = run(probing_second, VariantRejected(deployment="d2", reason=LATER))
    assert exhausted.deployment is not None
    assert [(row.variant, row.reason) for row in exhausted.deployment.tried] == [
        ("onnx-int8", WHY),
        ("onnx-fp32", LATER),
    ]


def test_a_variant_that_was_refused_is_not_refused_for_ever(make: Any, probing: ModelState) -> None:
    rejected = VariantRejected(deployment="d2", reason=WHY)
    fetched = Fetched(deployment="d2", candidate=make.installed(2))
    same_again = run(probing, rejected, fetched, Permitted(deployment="d2"))
    with pytest.raises(IllegalEventError, match="refused before"):
        step(same_again, rejected, 9.0)


def test_a_commit_collects_before_it_reports(make: Any) -> None:
    slots = replace(make.committed(1).slots, candidate=make.installed(2))
    state = make.at(Phase.PROBATION, deployment="d2", release=2, slots=slots, ended=("d1",))
    after, commands = step(state, ProbationPassed(deployment="d2"), 5.0)
    assert kinds(commands) == [CommitRelease, ReportOutcome]
    assert (after.slots.active, after.slots.previous) == (make.installed(2), make.installed(1))
    assert after.deployment is not None
    held_up = replace(state, deployment=replace(state.deployment, reason=WHY))
    assert run(held_up, ProbationPassed(deployment="d2")).deployment == replace(after.deployment, since=100.0)
    assert (after.deployment.since, after.deployment.report_pending) == (5.0, True)


def test_the_newest_reason_is_the_one_told_and_none_does_not_erase_it(
    make: Any, fetching: ModelState
) -> None:
    undone = run(fetching, RollbackRequested(deployment="d2", reason=WHY), RolledBack(deployment="d2"))
    assert undone.deployment is not None
    assert undone.deployment.reason == WHY
    slots = replace(make.committed(1).slots, candidate=make.installed(2))
    probation = make.at(Phase.PROBATION, deployment="d2", release=2, slots=slots)
    earlier = replace(probation, deployment=replace(probation.deployment, reason=WHY))
    failed = run(earlier, ProbationFailed(deployment="d2", reason=LATER))
    assert failed.deployment is not None
    assert failed.deployment.reason == LATER


# --- what contradicts the state ----------------------------------------------------------------------------------


def test_nothing_opens_before_the_outcome_before_is_reported(make: Any) -> None:
    waiting = replace(
        make.committed(1), deployment=replace(make.committed(1).deployment, report_pending=True)
    )
    for event in (
        Assigned(deployment="d2", assignment=make.assigned(2)),
        AlreadyActive(deployment="d2", assignment=make.assigned(1, "d2")),
    ):
        with pytest.raises(IllegalEventError, match="not reported yet"):
            step(waiting, event, 5.0)
    opened = run(waiting, Reported(deployment="d1"), Assigned(deployment="d2", assignment=make.assigned(2)))
    assert opened.phase is Phase.FETCHING


def test_an_ended_deployment_is_not_run_again(make: Any) -> None:
    with pytest.raises(IllegalEventError, match="has ended"):
        step(make.committed(3, previous=1), Assigned(deployment="d1", assignment=make.assigned(1)), 5.0)


@pytest.mark.parametrize(("model", "deployment"), [("faces", "d2"), ("digits", "d7")])
def test_an_assignment_of_something_else_is_refused(make: Any, model: str, deployment: str) -> None:
    wrong = make.assigned(2, deployment, model=model)
    with pytest.raises(IllegalEventError, match="the assignment is of"):
        step(make.committed(1), Assigned(deployment="d2", assignment=wrong), 5.0)


def test_below_the_floor_nothing_begins(make: Any) -> None:
    with pytest.raises(IllegalEventError, match="below the floor"):
        step(make.committed(5), Assigned(deployment="d2", assignment=make.assigned(2)), 5.0)


def test_only_what_is_active_is_adopted(make: Any) -> None:
    state = make.committed(1)
    other = make.assigned(1, "d2")
    for wrong in (
        make.assigned(2),
        replace(other, manifest=replace(other.manifest, sha256="f" * 64)),
        replace(other, assignment=replace(other.assignment, variant_policy=VariantPolicy.SMALLEST)),
    ):
        with pytest.raises(IllegalEventError, match="not the active one"):
            step(state, AlreadyActive(deployment="d2", assignment=wrong), 5.0)
    adopted, commands = step(state, AlreadyActive(deployment="d2", assignment=other), 5.0)
    assert adopted.slots.active == replace(make.installed(1), deployment="d2")
    assert (adopted.phase, kinds(commands)) == (Phase.COMMITTED, [ReportOutcome])


@pytest.mark.parametrize("change", [{"deployment": "d7"}, {"model": "faces"}, {"release": 7}])
def test_a_candidate_of_something_else_is_refused(
    make: Any, fetching: ModelState, change: dict[str, Any]
) -> None:
    with pytest.raises(IllegalEventError, match="candidate is of"):
        step(fetching, Fetched(deployment="d2", candidate=replace(make.installed(2), **change)), 5.0)


# --- a technician's rollback -------------------------------------------------------------------------------------


def test_going_back_reverses_the_commit_without_a_second_outcome(make: Any) -> None:
    state = make.committed(2, previous=1)
    state = replace(state, deployment=replace(state.deployment, outcome=Phase.COMMITTED))
    undoing, commands = step(state, request_rollback(state, "it squeaks"), 5.0)
    (restore,) = commands
    assert isinstance(restore, RestorePrevious)
    assert restore.target == make.installed(1)
    assert restore.reason.text == "rolled back on the device: it squeaks"
    after, commands = step(undoing, RolledBack(deployment="d2"), 6.0)
    assert kinds(commands) == [DiscardCandidate, ReportReversal]
    assert (after.slots.active, after.slots.previous, after.slots.floor) == (make.installed(1), None, 2)
    assert after.ended == ("d1", "d2")  # each once


def test_going_back_is_of_the_release_that_serves_though_a_newer_one_was_refused(make: Any) -> None:
    state = make.committed(2, previous=1)
    refused = make.at(
        Phase.REFUSED, deployment="d3", release=3, slots=state.slots, ended=(*state.ended, "d3")
    )
    undoing = run(refused, request_rollback(refused, None))
    assert undoing.deployment is not None
    assert (undoing.deployment.deployment, undoing.deployment.release) == ("d2", 2)
    _, commands = step(undoing, RolledBack(deployment="d2"), 6.0)
    assert kinds(commands) == [DiscardCandidate, ReportReversal]


def test_there_must_be_something_to_go_back_to_and_nothing_unreported(make: Any) -> None:
    event = RollbackRequested(deployment="d2", reason=WHY)
    with pytest.raises(NothingToRollBackToError):
        step(make.committed(2), event, 5.0)
    state = make.committed(2, previous=1)
    waiting = replace(state, deployment=replace(state.deployment, report_pending=True))
    with pytest.raises(IllegalEventError, match="not reported yet"):
        step(waiting, event, 5.0)


# --- memory and recovery -----------------------------------------------------------------------------------------


def test_the_newest_ended_deployments_are_remembered_and_no_more(make: Any) -> None:
    old = tuple(f"x{number}" for number in range(ENDED_KEPT))
    state = replace(make.committed(1), ended=old)
    ended = run(
        state,
        Assigned(deployment="d2", assignment=make.assigned(2)),
        FetchFailed(deployment="d2", reason=WHY),
    ).ended
    assert ended == (*old[1:], "d2")


def test_after_a_crash_what_was_active_serves_and_the_rest_follows_from_the_phase(make: Any) -> None:
    active = make.installed(1)
    slots = replace(make.committed(1).slots, candidate=make.installed(2))
    for phase in (Phase.PROBING, Phase.ACTIVATING, Phase.PROBATION):
        state = make.at(phase, deployment="d2", release=2, slots=slots)
        recovered, commands = recover(state, 9.0, "b")
        assert recovered.deployment is not None
        assert (recovered.phase, recovered.deployment.since) == (Phase.ROLLING_BACK, 9.0)
        assert recovered.deployment.reason is not None
        assert recovered.deployment.reason.code == "interrupted"
        assert phase.value in recovered.deployment.reason.text
        assert kinds(commands) == [ServeActive, RestorePrevious]
        assert getattr(commands[1], "target", None) == active
    fetching = make.at(Phase.FETCHING, deployment="d2", release=2, slots=make.committed(1).slots)
    assert recover(fetching, 9.0, "b")[0].phase is Phase.FETCHING
    assert kinds(recover(fetching, 9.0, "b")[1]) == [ServeActive, FetchRelease]
    waiting = make.at(Phase.READY, deployment="d2", release=2, slots=slots)
    assert recover(waiting, 9.0, "b")[0].slots.candidate == slots.candidate
    assert kinds(recover(waiting, 9.0, "b")[1]) == [ServeActive, AwaitPermission]
    resting = make.committed(1)
    assert kinds(recover(resting, 9.0, "b")[1]) == [ServeActive]
    unreported = replace(resting, deployment=replace(resting.deployment, report_pending=True))
    assert kinds(recover(unreported, 9.0, "b")[1]) == [ServeActive, ReportOutcome]
    assert recover(make.at(None), 9.0, "b") == (make.at(None), ())


def restarted(state: ModelState, times: int, *, first: int = 0) -> ModelState:
    for start in range(first, first + times):
        state, _ = recover(state, 10.0 + start, f"boot-{start}")
    return state


@pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.READY])
def test_a_deployment_that_restarts_the_agent_again_and_again_is_rolled_back(make: Any, phase: Phase) -> None:
    slots = replace(make.committed(1).slots, candidate=make.installed(2))
    state = make.at(phase, deployment="d2", release=2, slots=slots)
    often = restarted(state, STARTS_IN_A_ROW)
    assert often.phase is phase
    undoing = restarted(often, 1, first=50)
    assert undoing.deployment is not None
    assert (undoing.phase, undoing.deployment.reason) == (
        Phase.ROLLING_BACK,
        Reason(
            code="restart-loop",
            text=f"the agent stopped 6 times in a row while the deployment was {phase.value}",
        ),
    )
    assert restarted(undoing, STARTS_IN_A_ROW, first=60).phase is Phase.ROLLING_BACK
    ended = restarted(undoing, STARTS_IN_A_ROW + 1, first=60)
    assert ended.deployment is not None
    assert (ended.phase, ended.slots, ended.deployment.reason) == (
        Phase.ROLLED_BACK,
        make.committed(1).slots,
        undoing.deployment.reason,
    )
    assert kinds(recover(ended, 99.0, "later")[1]) == [ServeActive, ReportOutcome]


def test_a_superseded_run_whose_way_back_never_ends_ends_superseded(make: Any) -> None:
    slots = replace(make.committed(1).slots, candidate=make.installed(2))
    state = make.at(Phase.PROBATION, deployment="d2", release=2, slots=slots)
    undoing = run(state, Superseded(deployment="d2", reason=WHY))
    assert restarted(undoing, STARTS_IN_A_ROW + 1).phase is Phase.SUPERSEDED


def test_restarts_with_steady_service_between_are_forgiven_up_to_a_thousand(fetching: ModelState) -> None:
    state = fetching
    for round_ in range(STARTS_IN_ALL):
        assert state.phase is Phase.FETCHING
        state, _ = recover(state, 10.0, f"boot-{round_}")
        state, commands = step(state, Steady(deployment="d2"), 11.0)
        assert commands == ()
    undoing, _ = recover(state, 10.0, "one too many")
    assert undoing.deployment is not None
    assert undoing.deployment.reason is not None
    assert undoing.deployment.reason.text == "the agent stopped 1001 times while the deployment was fetching"


def test_an_acceptance_is_kept_with_the_deployment_and_goes_with_its_command(
    make: Any, fetching: ModelState, ready: ModelState
) -> None:
    said = Acceptance(by="maria (uid 1000)", at=5.0, now=True)
    for state, kind in ((fetching, FetchRelease), (ready, AwaitPermission)):
        after, (command,) = step(state, Accepted(deployment="d2", acceptance=said), 6.0)
        assert after.deployment is not None
        assert (after.phase, after.deployment.accepted) == (state.phase, said)
        assert isinstance(command, kind)
        assert command.accepted == said
        resumed, commands = recover(after, 7.0, "b")
        assert resumed.deployment is not None
        assert (resumed.deployment.accepted, getattr(commands[-1], "accepted", None)) == (said, said)
    later = run(ready, Accepted(deployment="d2", acceptance=said), Superseded(deployment="d2", reason=WHY))
    again = run(
        later, Reported(deployment="d2"), Assigned(deployment="d3", assignment=make.assigned(3, "d3"))
    )
    assert again.deployment is not None
    assert again.deployment.accepted is None
