"""The verifier as a process, with a hub that does nothing wrong: what the attacks are measured against."""

from datetime import timedelta

from agent.protocol.state import ShadowPolicy
from agent.protocol.verification import FetchedMetadata
from tests.fault.trust.hub_simulator import Device, HubSimulator


def test_a_signed_and_assigned_release_is_taken(hub: HubSimulator, device: Device) -> None:
    result = device.check(hub, hub.direct(1))
    assert result.refusal is None
    assert result.refused == ()
    (taken,) = result.assignments
    assert (taken.model, taken.release, taken.assignment.deployment) == ("digits", 1, "d-1")
    assert {file.filename for file in taken.files} == {"manifest.json", "model.onnx"}
    assert (taken.manifest.size, taken.manifest.sha256) == hub.release_files("digits", 1)[
        "models/digits/1/manifest.json"
    ]


def test_a_policy_with_fractions_survives_being_signed(hub: HubSimulator, device: Device) -> None:
    policy = ShadowPolicy(share=0.1, requests=7, seconds=1e-3, maximum_disagreement=1 / 3, tolerance=0.0)
    result = device.check(hub, hub.direct_all({"digits": 1}, shadow=policy))
    assert result.refusal is None
    (taken,) = result.assignments
    assert taken.assignment.shadow == policy


def test_what_was_verified_is_handed_back_for_storage(hub: HubSimulator, device: Device) -> None:
    result = device.check(hub, hub.direct(1))
    assert set(result.metadata) == {
        "timestamp.json", "snapshot.json", "targets.json", "digits.json", "director.json",
    }  # fmt: skip
    assert {mark.role: mark.version for mark in result.marks} == {
        "root": 1, "timestamp": 2, "snapshot": 2, "targets": 1, "digits": 2, "director:cam-1": 1,
        ":time": hub.now.timestamp(),
    }  # fmt: skip
    assert result.hub_time == hub.now.timestamp()


def test_nothing_new_asks_for_the_next_root_and_the_timestamp_only(hub: HubSimulator, device: Device) -> None:
    document = hub.direct(1)
    device.check(hub, document)
    hub.asked.clear()
    result = device.check(hub, document)
    assert hub.asked == ["2.root.json", "timestamp.json"]
    assert len(result.assignments) == 1
    assert result.metadata == {}


def test_the_same_directors_document_is_taken_again_and_a_newer_one_replaces_it(
    hub: HubSimulator, device: Device
) -> None:
    hub.approve("digits", 2)
    first = hub.direct(1)
    device.check(hub, first)
    assert device.check(hub, first).refusal is None
    assert device.check(hub, hub.direct(2)).assignments[0].release == 2


def test_going_back_is_a_new_directors_document_that_names_an_earlier_release(
    hub: HubSimulator, device: Device
) -> None:
    hub.approve("digits", 2)
    device.check(hub, hub.direct(2))
    result = device.check(hub, hub.direct(1, deployment="d-2"))
    assert result.refusal is None
    assert result.assignments[0].release == 1


def test_without_a_directors_document_the_repository_is_refreshed_only(
    hub: HubSimulator, device: Device
) -> None:
    result = device.check(hub)
    assert result.refusal is None
    assert result.assignments == ()
    assert set(result.metadata) == {"timestamp.json", "snapshot.json", "targets.json"}


def test_no_network_is_told_apart_from_a_refusal_and_what_was_verified_is_kept(
    hub: HubSimulator, device: Device
) -> None:
    hub.answers["2.digits.json"] = FetchedMetadata(data=None, error="not connected")
    result = device.check(hub, hub.direct(1))
    assert result.refusal is not None
    assert result.refusal.code == "no-network"
    assert result.assignments == ()
    assert result.refused == ()
    assert "timestamp.json" in result.metadata
    hub.answers.clear()
    assert device.check(hub, hub.direct(1)).assignments[0].release == 1


def test_the_hubs_time_is_capped_by_the_roots_expiry(hub: HubSimulator, device: Device) -> None:
    """A stolen online key that signs a time far ahead can't make everything look expired for ever."""
    hub.now += timedelta(days=3650)
    hub.repository.refresh_timestamp()
    result = device.check(hub, now=hub.now - timedelta(days=3650))
    assert result.hub_time == (hub.now - timedelta(days=3650 - 365)).timestamp()
