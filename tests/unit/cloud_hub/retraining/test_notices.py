"""Notices: silent devices, devices without a verdict, lost telemetry, doubtful devices, contradicted estimates; each once, ended by itself."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from agent.drift.reference import decode_reference
from agent.protocol.batch_codec import decode_envelope, encode_batch
from agent.protocol.drift import AccuracyEstimate, DriftReference, DriftWindow
from agent.protocol.labels import LabelOrigin
from agent.protocol.state import OutboxReport
from agent.protocol.telemetry import Accuracy, Record, TelemetryBatch
from cloud_hub.devices.models import Device
from cloud_hub.hub import Hub
from cloud_hub.ingest.store import store_batches
from cloud_hub.retraining import noticing
from cloud_hub.retraining.noticing import DeviceFacts, LabelFacts
from tests.support.drift_windows import store, window
from tests.unit.cloud_hub.conftest import Clock
from tests.unit.cloud_hub.hub_world import People, report, report_bytes
from tests.unit.cloud_hub.sample_release import reference, release_files

HOUR = 3600.0


@pytest.fixture
def signed() -> DriftReference:
    return decode_reference(reference())


def send(hub: Hub, device: str, sequence: int, sent: DriftWindow) -> None:
    hub.database.write(lambda session: store(session, device, {sequence: sent}, hub.now()))


def notices(people: People, hub: Hub, clock: Clock, hours: float = 0.1) -> list[tuple[str, str]]:
    clock.now += hours * HOUR
    hub.keep_telemetry()
    return [(each["kind"], each["subject"]) for each in people.ok("viewer", "GET", "/v1/notices")]


def test_a_silent_device_is_noticed_once_and_the_notice_ends_when_it_speaks(
    people: People, hub: Hub, clock: Clock, signed: DriftReference
) -> None:
    people.publish(release_files())
    people.enrol("cam-1")
    send(hub, "cam-1", 1, window(signed, clock.now, rows=600))
    assert notices(people, hub, clock) == []
    assert notices(people, hub, clock, 25) == [("silent-device", "cam-1")]
    (first,) = people.ok("viewer", "GET", "/v1/notices")
    assert "offline" in first["text"]
    assert notices(people, hub, clock, 50) == [("silent-device", "cam-1")]
    (same,) = people.ok("viewer", "GET", "/v1/notices")
    assert (same["id"], same["since"]) == (first["id"], first["since"])
    send(hub, "cam-1", 2, window(signed, clock.now, rows=600))
    assert notices(people, hub, clock) == []
    (over,) = people.ok("viewer", "GET", "/v1/notices", params={"ended": "true"})
    assert over["ended"] == pytest.approx(clock.now)


def test_a_revoked_device_is_silent_by_intention(people: People, hub: Hub, clock: Clock) -> None:
    people.enrol("cam-1")
    assert notices(people, hub, clock, 25) == [("silent-device", "cam-1")]
    people.ok("admin", "POST", "/v1/devices/cam-1/revoke", json={"reason": "sold"})
    assert notices(people, hub, clock) == []


def test_too_few_rows_for_three_days_are_noticed_and_more_rows_end_it(
    people: People, hub: Hub, clock: Clock, signed: DriftReference
) -> None:
    people.publish(release_files())
    people.enrol("cam-1")
    seen: list[Sequence[tuple[str, str]]] = []
    for day in range(1, 6):
        clock.now += 23 * HOUR
        send(hub, "cam-1", day, window(signed, clock.now, rows=20))
        seen.append(notices(people, hub, clock))
    expected = [("insufficient-data", "cam-1 digits")]
    assert seen == [[], [], [], [], expected]
    send(hub, "cam-1", 9, window(signed, clock.now, rows=600))
    assert notices(people, hub, clock) == []


def test_dropped_records_are_noticed_until_nothing_more_is_dropped_for_a_day(
    people: People, hub: Hub, clock: Clock, signed: DriftReference
) -> None:
    people.publish(release_files())
    people.enrol("cam-1")

    def dropped(count: int) -> None:
        outbox = OutboxReport(
            epoch="e1", recorded=9, acknowledged=0, pending=0, dropped={"health": count}, quarantined=0
        )
        state = msgspec.structs.replace(report("cam-1"), outbox=outbox)

        def work(session: Any) -> None:
            session.get(Device, "cam-1").reported = report_bytes(state)

        hub.database.write(work)

    def speak(sequence: int) -> None:
        send(hub, "cam-1", sequence, window(signed, clock.now, rows=600))

    dropped(3)
    speak(1)
    assert notices(people, hub, clock) == [("lost-telemetry", "cam-1")]
    dropped(5)
    assert notices(people, hub, clock, 20) == [("lost-telemetry", "cam-1")]
    (one,) = people.ok("viewer", "GET", "/v1/notices")
    assert "5 telemetry records: 5 health" in one["text"]
    speak(2)
    assert notices(people, hub, clock, 20) == [("lost-telemetry", "cam-1")]
    speak(3)
    assert notices(people, hub, clock, 5) == []
    assert notices(people, hub, clock, 2) == []  # and it does not come back
    dropped(6)
    assert notices(people, hub, clock, 2) == [("lost-telemetry", "cam-1")]


def test_a_device_that_says_otherwise_than_its_counts_is_noticed(
    people: People, hub: Hub, clock: Clock, signed: DriftReference
) -> None:
    people.publish(release_files())
    for name in ("cam-1", "cam-2"):
        people.enrol(name)
    whole = window(signed, clock.now, rows=600)
    lying = msgspec.structs.replace(whole, verdict=msgspec.structs.replace(whole.verdict, level="drift"))
    send(hub, "cam-1", 1, lying)
    send(hub, "cam-2", 1, msgspec.structs.replace(whole, rows=601))
    assert sorted(notices(people, hub, clock)) == [
        ("unusable-windows", "cam-2 digits"),
        ("verdict-disagrees", "cam-1 digits"),
    ]


def test_labels_that_contradict_the_estimate_are_noticed(
    people: People, hub: Hub, clock: Clock, signed: DriftReference
) -> None:
    people.publish(release_files())
    people.enrol("cam-1")
    estimate = AccuracyEstimate(accuracy=0.95, low=0.93, high=0.97, level=0.95, rows=600)
    send(hub, "cam-1", 1, window(signed, clock.now, rows=600, estimate=estimate))
    assert notices(people, hub, clock) == []

    def label(sequence: int, origin: LabelOrigin, correct: int) -> None:
        day = clock.now // 86_400 * 86_400
        body = Accuracy(
            time=clock.now,
            model="digits",
            release=1,
            opened=day,
            closed=day + 86_400,
            origin=origin,
            rows=400,
            correct=correct,
        )
        batch = TelemetryBatch(device="cam-1", epoch="e1", records=(Record(sequence=sequence, body=body),))
        hub.database.write(
            lambda session: store_batches(session, [decode_envelope(encode_batch(batch))], hub.now())
        )

    label(2, "model", 200)
    assert notices(people, hub, clock) == []  # the model's own output is no truth
    label(3, "person", 300)
    assert notices(people, hub, clock) == [("estimate-contradicted", "digits 1")]
    (one,) = people.ok("viewer", "GET", "/v1/notices")
    assert "400 labels say accuracy 0.750" in one["text"]
    label(4, "person", 382)  # a later record takes its place
    assert notices(people, hub, clock) == []


def test_what_ends_and_is_back_within_an_hour_is_the_same_notice(
    people: People, hub: Hub, clock: Clock, signed: DriftReference
) -> None:
    people.publish(release_files())
    people.enrol("cam-1")
    whole = window(signed, clock.now, rows=600)
    lying = msgspec.structs.replace(whole, verdict=msgspec.structs.replace(whole.verdict, level="drift"))
    for sequence in range(1, 6):
        send(hub, "cam-1", sequence, lying if sequence % 2 else whole)
        assert bool(notices(people, hub, clock)) == bool(sequence % 2)
    assert len(people.ok("viewer", "GET", "/v1/notices", params={"ended": "true"})) == 1


def test_few_labels_and_intervals_that_touch_contradict_nothing() -> None:
    facts = LabelFacts(
        model="m",
        release=1,
        rows=99,
        accuracy=0.5,
        low=0.4,
        high=0.6,
        estimated=0.9,
        estimated_low=0.8,
        estimated_high=1.0,
    )
    assert noticing.contradicted([facts], 0) == []
    assert noticing.contradicted([msgspec.structs.replace(facts, rows=100)], 0)
    assert noticing.contradicted([msgspec.structs.replace(facts, rows=100, high=0.8)], 0) == []


def test_a_device_that_is_online_and_says_nothing_is_told_apart() -> None:
    facts = DeviceFacts(device="d", enrolled=0.0, online=True, heard=None, outbox=None)
    (found,) = noticing.silent([facts], 90_000.0, 24)
    assert "has never sent telemetry, though it is online" in found.text
    assert found.since == 86_400


def test_a_look_that_fails_stops_no_other_is_noticed_and_ends_nothing_that_stood(
    people: People, hub: Hub, clock: Clock, signed: DriftReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.publish(release_files())
    people.enrol("cam-1")
    people.enrol("cam-2")
    for hour in range(1, 5):
        clock.now += 23 * HOUR
        send(hub, "cam-1", hour, window(signed, clock.now, rows=20))
    assert ("insufficient-data", "cam-1 digits") in notices(people, hub, clock, 10)

    def broken(*_: object) -> list[noticing.Found]:
        raise ValueError("math domain error")

    with monkeypatch.context() as patched:
        patched.setattr(noticing, "unjudged", broken)
        assert set(notices(people, hub, clock, 25)) == {
            ("insufficient-data", "cam-1 digits"),
            ("notices-failed", "insufficient-data"),
            ("silent-device", "cam-1"),
            ("silent-device", "cam-2"),
        }
    assert ("notices-failed", "insufficient-data") not in notices(people, hub, clock)


def test_windows_that_are_all_cut_short_are_noticed_until_one_is_complete(
    people: People, hub: Hub, clock: Clock, signed: DriftReference
) -> None:
    people.publish(release_files())
    people.enrol("cam-1")
    seen: list[Sequence[tuple[str, str]]] = []
    for day in range(1, 7):
        clock.now += 23 * HOUR
        send(hub, "cam-1", day, window(signed, clock.now, rows=600, incomplete=True))
        seen.append(notices(people, hub, clock))
    assert seen[1] == []
    assert seen[-1] == [("incomplete-windows", "cam-1 digits")]
    (notice,) = people.ok("viewer", "GET", "/v1/notices")
    assert "cut short" in notice["text"]
    send(hub, "cam-1", 7, window(signed, clock.now, rows=600))
    assert notices(people, hub, clock) == []
