"""What the hub shows of service levels, degrading and the choice of a variant; and what it lets a manifest declare."""

import pytest
from msgspec.structs import replace

from agent.protocol.manifest import Budget, Manifest, ServiceLevel
from agent.protocol.state import (
    Measurement,
    Phase,
    Reason,
    ReportedState,
    ServiceVerdict,
    ServingReport,
    TriedVariant,
)
from cloud_hub.approvals.difference import _budget
from cloud_hub.devices import service
from cloud_hub.hub import Hub
from tests.unit.cloud_hub.hub_world import People, report, report_bytes
from tests.unit.cloud_hub.sample_release import HARDWARE, release_files

MEASURED = Measurement(
    variant="onnx-int8",
    artifact="a" * 64,
    size_bytes=10,
    p50_ms=1.0,
    p99_ms=4.25,
    peak_memory_mib=61.0,
    golden_max_error=0.0,
    golden_class_agreement=1.0,
    budget_p99_ms=5.0,
    budget_memory_mib=64.0,
)
BROKEN = ServiceVerdict(
    level="broken", requests=400, p99_ms=12.0, failure_rate=0.0, text="p99 is 12 ms, 10 ms are allowed"
)
SERVING = ServingReport(
    model="digits",
    release=2,
    variant="onnx-int8",
    artifact="a" * 64,
    ready=True,
    requests=500,
    failures=0,
    p95_ms=3.75,
    p99_ms=12.0,
    service_level=BROKEN,
    degraded=Reason(code="service-level-broken", text="too slow for 60 s"),
)


def reported() -> ReportedState:
    state = report("cam-1", ("d2", 2, Phase.COMMITTED))
    slow = TriedVariant(
        variant="onnx-fp32",
        reason=Reason(code="latency-over-budget", text="p99 latency is 9.5 ms"),
        measurement=replace(MEASURED, variant="onnx-fp32", p99_ms=9.5),
    )
    odd = TriedVariant(
        variant="onnx-odd", reason=Reason(code="load-failed", text="operator Foo is not known")
    )
    deployment = replace(
        state.deployments[0],
        tried=(odd, slow),
        measurement=MEASURED,
        chosen=Reason(code="most-accurate", text="onnx-int8 is the most accurate of those left"),
    )
    return replace(state, serving=(SERVING,), deployments=(deployment,))


@pytest.fixture
def told(people: People, hub: Hub) -> People:
    people.enrol("cam-1")
    state = reported()
    hub.database.write(
        lambda session: service.take_report(
            session, service.get_device(session, "cam-1"), state, report_bytes(state), hub.now()
        )
    )
    return people


def test_the_fleet_says_which_device_breaks_its_level_and_which_is_degraded(told: People) -> None:
    found = told.ok("viewer", "GET", "/v1/fleet")["findings"]
    mine = {finding["severity"]: finding["what"] for finding in found if finding["where"] == "cam-1"}
    assert mine["error"] == "digits 2 breaks its service level: p99 is 12 ms, 10 ms are allowed"
    texts = [finding["what"] for finding in found]
    assert "digits 2 is served by its smaller variant onnx-int8: too slow for 60 s" in texts


def test_the_api_has_the_verdict_and_every_variant_that_was_tried(told: People) -> None:
    shown = told.ok("viewer", "GET", "/v1/devices/cam-1")["device"]["reported"]
    assert shown["serving"][0]["service_level"]["level"] == "broken"
    assert shown["serving"][0]["p95_ms"] == 3.75
    tried = shown["deployments"][0]["tried"]
    assert [(row["variant"], (row["measurement"] or {}).get("p99_ms")) for row in tried] == [
        ("onnx-odd", None),
        ("onnx-fp32", 9.5),
    ]
    assert shown["deployments"][0]["chosen"]["code"] == "most-accurate"


def test_the_page_shows_them(told: People) -> None:
    viewer = {"token": told.tokens["viewer"]}
    page = told.http.get("/devices", params=viewer).text + told.http.get("/devices/cam-1", params=viewer).text
    for words in (
        ">degraded</span>",
        ">broken</span>",
        "3.75 ms",
        "4.25 <span",
        "9.50 <span",
        "of 5 ms",
        "operator Foo is not known",
        "onnx-int8 is the most accurate of those left",
    ):
        assert words in page
    assert page.count(">refused</span>") == 2
    assert page.count(">chosen</span>") == 1


def test_a_device_within_its_level_is_no_finding(people: People, hub: Hub) -> None:
    people.enrol("cam-1")
    well = replace(SERVING, service_level=replace(BROKEN, level="ok"), degraded=None)
    state = replace(reported(), serving=(well,))
    hub.database.write(
        lambda session: service.take_report(
            session, service.get_device(session, "cam-1"), state, report_bytes(state), hub.now()
        )
    )
    found = people.ok("viewer", "GET", "/v1/fleet")["findings"]
    assert not [finding for finding in found if "level" in finding["what"] or "smaller" in finding["what"]]


def with_level(p99_ms: float) -> dict[str, bytes]:
    def rewrite(manifest: Manifest) -> Manifest:
        budget = Budget(p99_ms=100, peak_memory_mib=500, slo=ServiceLevel(p99_ms=p99_ms))
        return replace(manifest, budgets={HARDWARE: budget})

    return release_files(rewrite=rewrite)


def test_a_level_below_what_the_model_alone_may_take_is_not_submitted(people: People) -> None:
    people.upload(with_level(99.9))
    answer = people.submit()
    assert not answer.is_success
    assert "whole requests can't be held to less than the model alone may take" in answer.text


def test_a_level_at_what_the_model_alone_may_take_is_submitted(people: People) -> None:
    people.upload(with_level(100.0))
    assert people.submit().is_success


def test_an_approver_reads_budget_and_level_before_signing() -> None:
    slo = ServiceLevel(p99_ms=20.0, maximum_failure_rate=0.005, minimum_requests=200, seconds=600.0)
    budget = Budget(p99_ms=5.0, peak_memory_mib=64.0)
    assert _budget("rpi5", budget) == "  budget    rpi5: p99 5 ms, 64 MiB; no service level"
    assert _budget("rpi5", replace(budget, slo=slo)).endswith(
        "while it serves, p99 20 ms and 0.50% failed at most, over 600 s and 200 requests"
    )
