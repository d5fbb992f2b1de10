import json
from typing import Any

from agent.protocol.state import DeploymentReport, Phase, Reason
from cloud_hub.hub import Hub
from cloud_hub.rollouts.reports import take_report
from tests.unit.cloud_hub.bundles.conftest import Site
from tests.unit.cloud_hub.hub_world import report


def outcome(site: Site, device: str, phase: Phase = Phase.COMMITTED, **fields: Any) -> DeploymentReport:
    return DeploymentReport(
        deployment=site.deployment(device), model="digits", release=1, phase=phase, since=1.0, **fields
    )


def devices(site: Site, rollout: int) -> dict[str, tuple[str | None, str | None]]:
    state = site.people.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["state"]
    return {each["device"]: (each["outcome"], each["reason"]) for each in state["devices"]}


def audited(site: Site, action: str) -> list[dict[str, Any]]:
    return [each for each in site.people.ok("auditor", "GET", "/v1/audit") if each["action"] == action]


def test_a_receipt_counts_for_the_rollout_as_if_the_device_had_reported(site: Site) -> None:
    rollout = site.rollout()
    answer = site.bring(site.receipt("cam-1", outcome(site, "cam-1")))
    assert answer.status_code == 201, answer.text
    assert answer.json()["new"] is True
    assert devices(site, rollout) == {"cam-1": ("committed", None), "cam-2": (None, None)}
    why = Reason(code="golden-mismatch", text="an output differs")
    site.bring(site.receipt("cam-2", outcome(site, "cam-2", Phase.REFUSED, reason=why)))
    assert devices(site, rollout)["cam-2"] == ("failed", "refused, an output differs (golden-mismatch)")
    (entry, _second) = audited(site, "receipt-import")
    assert (entry["actor"], entry["subject"]) == ("the-operator", "cam-1")
    assert "digits 1 committed" in entry["details"]["outcomes"]


def test_imported_twice_it_is_here_once(site: Site) -> None:
    site.rollout()
    receipt = site.receipt("cam-1", outcome(site, "cam-1"))
    assert site.bring(receipt).json()["new"] is True
    assert site.bring(receipt).json()["new"] is False
    assert len(site.people.ok("viewer", "GET", "/v1/receipts")) == 1
    assert len(audited(site, "receipt-import")) == 1


def test_receipts_are_read_page_by_page_each_once(site: Site) -> None:
    site.rollout()
    for device in ("cam-1", "cam-2"):
        for time in (1.0, 2.0):
            site.bring(site.receipt(device, outcome(site, device), time=time))
    pages, after = [], ""
    while page := site.people.ok("viewer", "GET", f"/v1/receipts?limit=1{after}"):
        pages += page
        after = f"&after={page[-1]['sha256']}"
    assert [each["time"] for each in pages] == [2.0, 2.0, 1.0, 1.0]
    assert pages == site.people.ok("viewer", "GET", "/v1/receipts")
    older = site.people.ok("viewer", "GET", f"/v1/receipts?device=cam-1&after={pages[1]['sha256']}")
    assert [(each["device"], each["time"]) for each in older] == [("cam-1", 1.0)]


def test_the_same_outcome_by_receipt_and_online_counts_once(site: Site, hub: Hub) -> None:
    rollout = site.rollout()
    site.bring(site.receipt("cam-1", outcome(site, "cam-1")))
    before = devices(site, rollout), len(site.people.ok("auditor", "GET", "/v1/audit"))
    state = report("cam-1", (site.deployment("cam-1"), 1, Phase.COMMITTED))
    hub.database.write(
        lambda session: take_report(session, state, signing=hub.director_signing, now=hub.now())
    )
    assert (devices(site, rollout), len(site.people.ok("auditor", "GET", "/v1/audit"))) == before
    late = outcome(site, "cam-1", Phase.ROLLED_BACK, reason=Reason(code="late", text="late"))
    site.bring(site.receipt("cam-1", late, time=2.0))
    assert devices(site, rollout)["cam-1"] == ("committed", None)


def test_what_was_committed_by_a_bundle_is_what_a_rollback_goes_back_to(site: Site) -> None:
    from tests.unit.cloud_hub.sample_release import release_files

    site.rollout(1, "cam-1")
    site.bring(site.receipt("cam-1", outcome(site, "cam-1")))
    site.people.publish(release_files(2), 2)
    second = site.rollout(2, "cam-1")
    assert site.people.ok("viewer", "GET", f"/v1/rollouts/{second}")["previous"] == {"cam-1": 1}


def test_a_receipt_on_probation_is_kept_and_decides_nothing(site: Site) -> None:
    rollout = site.rollout(1, "cam-1")
    site.bring(site.receipt("cam-1", outcome(site, "cam-1", Phase.PROBATION)))
    assert devices(site, rollout) == {"cam-1": (None, None)}
    (kept,) = site.people.ok("viewer", "GET", "/v1/receipts?device=cam-1")
    assert kept["deployments"][0]["phase"] == "probation"


def test_a_refused_bundle_is_told_with_its_reason(site: Site) -> None:
    site.rollout()
    refusal = Reason(code="expired", text="the bundle expired at 2026-01-01")
    assert site.bring(site.receipt("cam-1", refusal=refusal)).json()["refusal"]["code"] == "expired"
    assert "the bundle expired" in audited(site, "receipt-import")[0]["details"]["refusal"]


def test_a_receipt_that_was_changed_or_is_not_the_devices_is_refused(site: Site) -> None:
    rollout = site.rollout()
    good = json.loads(site.receipt("cam-1", outcome(site, "cam-1")))
    other = json.loads(site.receipt("cam-2", outcome(site, "cam-2")))
    swapped = {**good, "payload": other["payload"]}
    by_another = {**good, "signatures": [{**good["signatures"][0], "sig": other["signatures"][0]["sig"]}]}
    wrong_type = {**good, "payloadType": "application/vnd.edgeward.bundle+json"}
    for bad, words in ((swapped, "is not signed by cam-2"), (by_another, "is not signed by cam-1")):
        answer = site.bring(json.dumps(bad).encode())
        assert (answer.status_code, words in answer.json()["detail"]) == (403, True), answer.text
    assert site.bring(json.dumps(wrong_type).encode()).status_code == 400
    assert site.bring(b"{}").status_code == 400
    assert site.bring(b"\xff").status_code == 400
    assert set(devices(site, rollout).values()) == {(None, None)}


def test_a_receipt_signed_before_the_device_was_enrolled_again_is_written_again(site: Site) -> None:
    site.rollout()
    old = site.receipt("cam-1", outcome(site, "cam-1"))
    site.enrol("cam-1")
    answer = site.bring(old)
    assert answer.status_code == 403
    assert "edgeward bundle receipt" in answer.json()["detail"]
    assert site.bring(site.receipt("cam-1", outcome(site, "cam-1"))).is_success


def test_the_fleets_page_says_what_is_known_of_a_device_that_no_network_reaches(site: Site) -> None:
    def said(device: str) -> tuple[str, str]:
        findings = site.people.ok("viewer", "GET", "/v1/fleet")["findings"]
        (found,) = (each for each in findings if each["where"] == device)
        return found["severity"], found["what"]

    site.rollout()
    assert said("cam-1")[1] == "Enrolled, but it has never reported."
    site.bring(site.receipt("cam-1", outcome(site, "cam-1"), time=86_400.0))
    assert said("cam-1") == (
        "info",
        "No network reaches it; by its receipt of 1970-01-02: digits 1 committed.",
    )
    why = Reason(code="golden-mismatch", text="an output differs")
    site.bring(site.receipt("cam-2", outcome(site, "cam-2", Phase.ROLLED_BACK, reason=why)))
    assert said("cam-2") == (
        "error",
        "By its receipt of 1970-01-01: digits 1 rolled back: an output differs",
    )
    refusal = Reason(code="expired", text="the bundle expired")
    site.bring(site.receipt("cam-2", refusal=refusal, time=2.0))
    assert (
        said("cam-2")[1] == "By its receipt of 1970-01-01 it refused a bundle: the bundle expired (expired)."
    )


def test_only_an_operator_imports(site: Site) -> None:
    site.rollout()
    assert site.bring(site.receipt("cam-1"), who="viewer").status_code == 403
    assert site.bring(site.receipt("cam-1"), who="auditor").status_code == 403
