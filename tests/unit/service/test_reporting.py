"""Reported state: what the device says is what its parts say."""

from typing import Any, cast

from msgspec.structs import replace

from agent.core.model_state import DeploymentState, ModelState
from agent.core.preconditions import Waiting
from agent.core.reconcile import Plan, reconcile
from agent.core.slots import Slots
from agent.protocol.limits import MAX_REPORTED_DEPLOYMENTS
from agent.protocol.runner import Statistics
from agent.protocol.state import Phase, Reason, TransferProgress
from agent.protocol.verification import RefusedAssignment
from agent.service.reporting import (
    ModelView,
    deployment_report,
    deployment_reports,
    model_report,
    referenced,
    serving_report,
)
from agent.supervisor.runner_process import RunnerProcess
from agent.supervisor.specs import RunnerSpec
from tests.contract.protocol.samples import WINDOW
from tests.unit.service.world import REASON, assigned, digest, installed, measurement


class RunnerDouble:
    """What a report reads of a runner."""

    def __init__(self, release: int, statistics: Statistics | None) -> None:
        self.spec = RunnerSpec(
            model="digits",
            release=release,
            deployment=f"d{release}",
            variant="onnx-int8",
            runtime="onnx",
            artifact_path="/nowhere",
            artifact_sha256=digest(release, "v"),
            inputs=(),
            outputs=(),
            labels=(),
            reference_path=None,
            threads=1,
            default_deadline_ms=1.0,
            maximum_body_bytes=1,
            memory_limit_mib=None,
        )
        self.statistics = statistics

    def memory_mib(self) -> float:
        return 42.0


def state(phase: Phase = Phase.COMMITTED, release: int = 2, model: str = "digits") -> ModelState:
    return ModelState(
        model=model,
        slots=Slots(active=installed(1, model=model), previous=installed(0, model=model), floor=1),
        deployment=DeploymentState(
            deployment=f"d{release}-{model}",
            model=model,
            release=release,
            phase=phase,
            since=float(release),
            reason=REASON,
            measurement=measurement(release),
        ),
    )


PROGRESS = TransferProgress(done_bytes=5, total_bytes=10, way="mqtt")


def view(of: ModelState, **parts: Any) -> ModelView:
    given = {"runner": None, "ready": False, "progress": None, "address": "127.0.0.1:8600", "window": None}
    return ModelView(state=of, **{**given, **parts})


def runner(release: int, statistics: Statistics | None = None) -> RunnerProcess:
    return cast(RunnerProcess, RunnerDouble(release, statistics))


def test_what_serves_is_what_its_runner_says() -> None:
    counts = Statistics(requests=10, failures=1, refused=2, p50_ms=0.5, p95_ms=0.7, p99_ms=0.9)
    report = serving_report(view(state(), runner=runner(2, counts), ready=True, window=WINDOW))
    assert report is not None
    assert (report.model, report.release, report.artifact) == ("digits", 2, digest(2, "v"))
    assert (report.ready, report.requests, report.failures) == (True, 10, 1)
    assert (report.p50_ms, report.p99_ms, report.memory_mib) == (0.5, 0.9, 42.0)
    assert (report.drift, report.drift_rows) == ("drift", 500)


def test_before_its_first_request_a_runner_has_counts_of_zero() -> None:
    report = serving_report(view(state(), runner=runner(2)))
    assert report is not None
    assert (report.requests, report.failures, report.p99_ms, report.drift) == (0, 0, None, None)


def test_the_verdict_on_the_release_before_says_nothing_about_this_one() -> None:
    report = serving_report(view(state(), runner=runner(3), window=WINDOW))
    assert report is not None
    assert (report.drift, report.drift_rows) == (None, None)


def test_nothing_serves_without_a_runner() -> None:
    assert serving_report(view(state())) is None


def test_a_deployment_is_reported_with_its_reason_and_measurement() -> None:
    report = deployment_report(view(state(Phase.REFUSED), progress=PROGRESS))
    assert report is not None
    assert (report.phase, report.since, report.reason) == (Phase.REFUSED, 2.0, REASON)
    assert report.measurement == measurement(2)
    assert report.progress is None, "only while it fetches"
    assert deployment_report(view(ModelState(model="digits"))) is None


def test_progress_is_told_while_it_fetches() -> None:
    report = deployment_report(view(state(Phase.FETCHING), progress=PROGRESS))
    assert report is not None
    assert report.progress == PROGRESS


def test_what_waits_is_reported_with_what_it_waits_for() -> None:
    now = state()
    hold = Reason(code="held-on-device", text="a technician holds this device")
    plan = reconcile([assigned(3)], [], {"digits": now}, hold=hold)
    reports = deployment_reports([view(now)], plan, 99.0)
    assert [report.deployment for report in reports] == ["d2-digits", "d3"]
    assert reports[1].waiting_for is not None
    assert "holds" in reports[1].waiting_for.text
    assert (reports[1].since, reports[1].progress) == (99.0, None)


def test_only_the_newest_deployments_are_reported() -> None:
    views = [view(state(model=f"m{number}", release=number + 1)) for number in range(40)]
    reports = deployment_reports(views, Plan(), 0.0)
    assert len(reports) == MAX_REPORTED_DEPLOYMENTS
    assert [report.release for report in reports] == list(range(9, 41))


def test_a_refused_assignment_of_the_plan_is_not_reported_as_waiting() -> None:
    refusal = RefusedAssignment(model="digits", release=9, deployment="d9", reason=REASON)
    plan = reconcile([], [refusal], {"digits": state()}, hold=None)
    assert [report.deployment for report in deployment_reports([view(state())], plan, 0.0)] == ["d2-digits"]


def test_a_technician_sees_every_slot() -> None:
    report = model_report(view(state()))
    assert report.active is not None
    assert (report.active.release, report.active.artifact) == (1, digest(1, "v"))
    assert report.candidate is None
    assert report.previous is not None
    assert (report.floor, report.address) == (1, "127.0.0.1:8600")


def test_collection_keeps_what_any_slot_needs_and_waits_for_a_fetch() -> None:
    one, two = state(), state(model="faces")
    assert referenced({"digits": one}) == frozenset((*installed(1).files, *installed(0).files))
    fetching = state(Phase.FETCHING, model="faces")
    assert fetching.deployment is not None
    coming = replace(fetching.deployment, assignment=assigned(7, model="faces"))
    kept = referenced({"digits": one, "faces": replace(fetching, deployment=coming)})
    assert kept == {*installed(1).files, *installed(0).files, *(f.sha256 for f in assigned(7).files)}
    candidate = replace(two, slots=replace(two.slots, candidate=installed(5, model="faces")))
    assert set(installed(5).files) <= (referenced({"digits": one, "faces": candidate}) or set())


def test_what_a_deployment_waits_for_is_told_until_it_has_ended() -> None:
    said = Reason(code="shadowing", text="shadowing: 37 of 200 requests, 1.2 % disagree")
    report = deployment_report(view(state(Phase.PROBING), waiting=Waiting(reason=said, until=77.0)))
    assert report is not None
    assert (report.waiting_for, report.waiting_until) == (said, 77.0)
    after = deployment_report(view(state(Phase.COMMITTED), waiting=Waiting(reason=said)))
    assert after is not None
    assert after.waiting_for is None


def test_models_that_the_repository_does_not_have_are_reported_and_take_no_deployments_place() -> None:
    reason = Reason(code="unknown-model", text="the repository has no such model")
    refused = [
        RefusedAssignment(model=f"x{n}", release=1, deployment=f"x{n}", reason=reason) for n in range(40)
    ]
    plan = reconcile([], refused, {"digits": state()}, hold=None)
    reports = deployment_reports([view(state())], plan, 99.0)
    assert len(reports) == MAX_REPORTED_DEPLOYMENTS
    assert reports[-1].deployment == "d2-digits"
    assert {(each.phase, each.reason) for each in reports[:-1]} == {(Phase.REFUSED, reason)}
