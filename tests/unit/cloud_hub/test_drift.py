"""Windows of several devices are merged and judged; a sick device is seen though the merge hides it."""

import numpy as np

from agent.drift.reference import decode_reference
from agent.drift.verdict import judge
from agent.protocol.batch_codec import decode_envelope, encode_batch
from agent.protocol.drift import DriftWindow, SignalCounts
from agent.protocol.telemetry import Record, TelemetryBatch, Window
from cloud_hub.hub import Hub
from cloud_hub.ingest.store import store_batches
from cloud_hub.registry.models import Release
from tests.unit.cloud_hub.hub_world import People
from tests.unit.cloud_hub.sample_release import reference, release_files


def send_window(hub: Hub, device: str, values: np.ndarray, *, release: int = 1) -> None:
    signed = decode_reference(reference())
    histogram = np.histogram(values, signed.signals[0].edges)[0]
    counts = {"image.mean": SignalCounts(counts=(0, *map(int, histogram), 0), missing=0)}
    window = DriftWindow(
        model="digits",
        release=release,
        deployment="d1",
        artifact="0" * 64,
        opened=1.0,
        closed=2.0,
        rows=len(values),
        signals=counts,
        verdict=judge(signed, counts, len(values)).verdict,
    )
    batch = TelemetryBatch(
        device=device, epoch="e1", records=(Record(sequence=1, body=Window(window=window)),)
    )
    hub.database.write(
        lambda session: store_batches(session, [decode_envelope(encode_batch(batch))], hub.now())
    )


def test_the_fleet_is_merged_and_each_device_stands_by_itself(people: People, hub: Hub) -> None:
    people.publish(release_files())
    usual, dirty = np.linspace(0, 1, 600), np.linspace(0, 0.3, 600)
    for number in range(8):
        send_window(hub, f"cam-{number}", usual)
    send_window(hub, "cam-dirty", dirty)
    hub.keep_telemetry()
    (line,) = people.ok("viewer", "GET", "/v1/drift")["releases"]
    assert (line["level"], line["raw_level"], line["left_out"], line["levels"]) == (
        "ok",
        "ok",
        1,
        {"ok": 8, "drift": 1},
    )
    found = people.ok("viewer", "GET", "/v1/drift/digits/1")
    assert (found["rows"], found["problem"]) == (5400, None)
    assert (found["fleet"]["raw"]["rows"], found["fleet"]["robust"]["rows"]) == (5400, 4800)
    assert [out["device"] for out in found["fleet"]["left_out"]] == ["cam-dirty"]
    first = found["devices"][0]
    assert (first["device"], first["level"], first["left_out"]) == ("cam-dirty", "drift", True)
    assert {device["level"] for device in found["devices"][1:]} == {"ok"}
    findings = people.ok("viewer", "GET", "/v1/fleet")["findings"]
    assert [finding["where"] for finding in findings if finding["severity"] == "error"][-1] == "cam-dirty"
    page = people.http.get("/", params={"token": people.tokens["viewer"]}).text
    assert "cam-dirty" in page


def test_without_the_reference_there_is_a_reason_and_no_verdict(people: People, hub: Hub) -> None:
    draft = Release(model="digits", release=9, state="draft", author="ci", created=1.0)
    hub.database.write(lambda session: session.add(draft))
    send_window(hub, "cam-1", np.linspace(0, 1, 600), release=9)
    hub.keep_telemetry()
    found = people.ok("viewer", "GET", "/v1/drift/digits/9")
    assert found["fleet"] is None
    assert "digits 9" in found["problem"]
    assert found["devices"][0]["claimed"] == "ok"


def test_of_a_release_that_nobody_made_nothing_is_told(people: People, hub: Hub) -> None:
    send_window(hub, "cam-1", np.linspace(0, 1, 600), release=9)
    hub.keep_telemetry()
    assert people.call("viewer", "GET", "/v1/drift/digits/9").status_code == 404
    assert people.ok("viewer", "GET", "/v1/drift")["releases"] == []


def test_a_release_that_sent_nothing_is_not_found(people: People) -> None:
    answer = people.call("viewer", "GET", "/v1/drift/digits/7")
    assert answer.status_code == 404
    assert "digits 7" in answer.json()["detail"]
