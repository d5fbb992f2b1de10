"""What a technician is told of service levels, degrading, and the choice of a variant."""

import pytest
from msgspec.structs import replace

from agent.cli.health import findings
from agent.cli.render import render
from agent.protocol.control import ModelReport, ModelsResult, SlotReport, StatusResult
from agent.protocol.state import Reason, ServiceVerdict, ServingReport, TriedVariant
from tests.contract.protocol.samples import DEPLOYMENT, MEASUREMENT, REPORTED, SERVING

WELL = ServingReport(
    model="digits", release=2, variant="onnx-fp32", artifact="a" * 64, ready=True, requests=500, failures=0
)
BROKEN = ServiceVerdict(
    level="broken", requests=400, p99_ms=120.0, failure_rate=0.0, text="p99 is 120 ms, 100 ms are allowed"
)
DEGRADED = Reason(code="service-level-broken", text="the service level was broken for 60 s")


def told(serving: ServingReport) -> list[tuple[str, str]]:
    state = replace(REPORTED, serving=(serving,), deployments=(), refusal=None, held=False)
    return [(each.severity, each.text) for each in findings(StatusResult(state=state, connected=True))]


def about(serving: ServingReport) -> list[tuple[str, str]]:
    usual = told(WELL)
    return [finding for finding in told(serving) if finding not in usual]


def test_a_kept_level_is_no_finding() -> None:
    assert about(replace(WELL, service_level=replace(BROKEN, level="ok"))) == []
    assert about(replace(WELL, service_level=replace(BROKEN, level="insufficient data"))) == []


def test_a_broken_level_is_a_problem_with_its_figures() -> None:
    assert about(replace(WELL, service_level=BROKEN)) == [
        ("problem", "digits release 2 breaks its service level: p99 is 120 ms, 100 ms are allowed")
    ]


def test_a_degraded_release_and_requests_turned_away_are_noticed() -> None:
    degraded = replace(WELL, variant="onnx-int8", degraded=DEGRADED, turned_away=7)
    assert about(degraded) == [
        ("notice", "digits release 2 is served by its smaller variant onnx-int8: " + DEGRADED.text),
        ("notice", "digits release 2 turned 7 requests away because too many were waiting"),
    ]


def shown(capsys: pytest.CaptureFixture[str], result: ModelsResult | StatusResult) -> str:
    render(result)
    return " ".join(capsys.readouterr().out.split())


def test_status_shows_the_level_and_that_it_is_degraded(capsys: pytest.CaptureFixture[str]) -> None:
    state = replace(REPORTED, serving=(replace(SERVING, p95_ms=0.625),))
    out = shown(capsys, StatusResult(state=state, connected=True))
    assert "0.625" in out
    assert "LEVEL" in out
    assert "broken" in out
    assert "(degraded)" in out


def test_models_shows_what_was_tried_what_it_measured_and_why_one_was_chosen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tried = TriedVariant(
        variant="onnx-big",
        reason=Reason(code="latency-over-budget", text="p99 latency is 80 ms"),
        measurement=replace(MEASUREMENT, variant="onnx-big", p99_ms=80.0),
    )
    broken = TriedVariant(variant="onnx-odd", reason=Reason(code="load-failed", text="operator Foo"))
    deployment = replace(
        DEPLOYMENT,
        tried=(broken, tried),
        measurement=replace(MEASUREMENT, p99_ms=4.25),
        chosen=Reason(code="most-accurate", text="the best of 3"),
    )
    model = ModelReport(
        model="digits",
        active=SlotReport(release=2, variant="onnx-int8", artifact="a" * 64, deployment="d", standby="tiny"),
        deployment=deployment,
        serving=replace(WELL, service_level=BROKEN, degraded=DEGRADED),
    )
    out = shown(capsys, ModelsResult(models=(model,)))
    assert "onnx-odd - - - - - operator Foo (load-failed)" in out
    assert "onnx-big 0.25 80 50 64.5 256 p99 latency is 80 ms (latency-over-budget)" in out
    assert "onnx-int8 0.25 4.25 50 64.5 256 the best of 3 (most-accurate)" in out
    assert "service level: broken: p99 is 120 ms, 100 ms are allowed" in out
    assert "degraded: onnx-fp32 serves: the service level was broken for 60 s" in out
    assert "standby" in out


def test_a_refused_release_shows_why_where_nothing_was_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    refused = replace(
        DEPLOYMENT, tried=(), chosen=None, reason=Reason(code="golden-mismatch", text="differs by 1")
    )
    out = shown(capsys, ModelsResult(models=(ModelReport(model="digits", deployment=refused),)))
    assert "differs by 1 (golden-mismatch)" in out
