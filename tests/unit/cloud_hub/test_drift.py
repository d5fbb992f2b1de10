"""Windows of several devices are merged and judged; a sick device is seen though the merge hides it."""

import numpy as np

from agent.drift.reference import decode_reference
from agent.drift.verdict import judge
from agent.protocol.batch_codec import decode_envelope, encode_batch
from agent.protocol.drift import DriftWindow, SignalCounts
from agent.protocol.telemetry import Record, TelemetryBatch, Window
from cloud_hub.hub import Hub
from cloud_hub.ingest.store import store_batches
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
    (found,) = people.ok("viewer", "GET", "/v1/drift")
    assert (found["rows"], found["verdict"]["rows"], found["problem"]) == (5400, 5400, None)
    assert found["verdict"]["level"] == "ok"
    levels = {device["device"]: device["verdict"]["level"] for device in found["devices"]}
    assert levels["cam-dirty"] == "drift"
    assert set(levels.values()) == {"ok", "drift"}
    findings = people.ok("viewer", "GET", "/v1/fleet")["findings"]
    assert [finding["where"] for finding in findings if finding["severity"] == "error"][-1] == "cam-dirty"
    page = people.http.get("/", params={"token": people.tokens["viewer"]}).text
    assert page.count("<svg") == 2  # the dirty camera alone, and the fleet


def test_without_the_release_there_is_a_reason_and_no_verdict(people: People, hub: Hub) -> None:
    send_window(hub, "cam-1", np.linspace(0, 1, 600), release=9)
    (found,) = people.ok("viewer", "GET", "/v1/drift")
    assert found["verdict"] is None
    assert "digits 9" in found["problem"]
