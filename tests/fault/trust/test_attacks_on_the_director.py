"""Wrong, old, forged and foreign director's documents against a real verifier process."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, Metadata, TargetFile, Targets

from agent.protocol.limits import MAX_DIRECTOR_BYTES
from tests.fault.trust.hub_simulator import DEVICE, Device, HubSimulator
from tests.fault.trust.test_attacks_on_the_repository import not_installed_as, refused_as


def changed(hub: HubSimulator, change: Callable[[Targets], None]) -> bytes:
    """A director's document with any content, signed by the director."""
    document = Metadata[Targets].from_bytes(hub.direct(1))
    change(document.signed)
    document.sign(hub.keys.director)
    return document.to_bytes()


def test_a_document_for_another_device(hub: HubSimulator, device: Device) -> None:
    result = device.check(hub, hub.direct(1, device="cam-2"))
    assert refused_as(result, "wrong-device")
    assert "director.json" not in result.metadata


def test_a_document_for_no_device(hub: HubSimulator, device: Device) -> None:
    document = changed(hub, lambda signed: signed.unrecognized_fields.clear())
    assert refused_as(device.check(hub, document), "wrong-device")


@pytest.mark.parametrize("thief", ["online", "approver", "stranger"])
def test_a_document_signed_by_another_key(hub: HubSimulator, device: Device, thief: str) -> None:
    signers = {
        "online": hub.keys.online,
        "approver": hub.keys.approvers["ada"],
        "stranger": CryptoSigner.generate_ed25519(),
    }
    assert refused_as(device.check(hub, hub.direct(1, signer=signers[thief])), "bad-signature")


def test_a_document_changed_after_it_was_signed(hub: HubSimulator, device: Device) -> None:
    document = hub.direct(1).replace(b'"deployment":"d-1"', b'"deployment":"d-9"')
    assert refused_as(device.check(hub, document), "bad-signature")


def test_an_older_document_played_again(hub: HubSimulator, device: Device) -> None:
    hub.approve("digits", 2)
    old = hub.direct(1)
    device.check(hub, hub.direct(2))
    assert refused_as(device.check(hub, old), "rollback-attack")
    device.metadata = {}
    assert refused_as(device.check(hub, old), "rollback-attack")


def test_two_different_documents_of_one_version(hub: HubSimulator, device: Device) -> None:
    device.check(hub, hub.direct(1, version=5))
    assert refused_as(device.check(hub, hub.direct(1, version=5, deployment="d-2")), "rollback-attack")


@pytest.mark.parametrize("version", [2**53 + 1, 2**70])
def test_a_version_that_no_mark_could_hold(hub: HubSimulator, device: Device, version: int) -> None:
    result = device.check(hub, hub.direct(1, version=version))
    assert refused_as(result, "malformed")
    assert device.check(hub, hub.direct(1, version=2)).refusal is None


def test_an_expired_document(hub: HubSimulator, device: Device) -> None:
    document = hub.direct(1, days=3)
    hub.now += timedelta(days=4)
    hub.repository.refresh_timestamp()
    assert refused_as(device.check(hub, document), "expired")


def test_a_document_that_delegates(hub: HubSimulator, device: Device) -> None:
    document = changed(hub, lambda signed: setattr(signed, "delegations", Delegations({}, {})))
    assert refused_as(device.check(hub, document), "malformed")


def test_an_oversized_document(hub: HubSimulator, device: Device) -> None:
    assert refused_as(device.check(hub, hub.direct(1) + b" " * MAX_DIRECTOR_BYTES), "malformed")


@pytest.mark.parametrize("document", [b"", b"{}", b"\x00", b'{"signed":[],"signatures":{}}'])
def test_a_malformed_document(hub: HubSimulator, device: Device, document: bytes) -> None:
    assert refused_as(device.check(hub, document), "malformed")


def test_a_document_of_another_type(hub: HubSimulator, device: Device) -> None:
    assert refused_as(device.check(hub, hub.repository.published("snapshot")), "malformed")


def test_a_release_that_was_never_registered(hub: HubSimulator, device: Device) -> None:
    assert not_installed_as(device.check(hub, hub.direct(7)), "not-approved")


def test_a_model_that_does_not_exist(hub: HubSimulator, device: Device) -> None:
    assert not_installed_as(device.check(hub, hub.direct(1, model="faces")), "unknown-model")


def test_the_director_as_a_model(hub: HubSimulator, device: Device) -> None:
    assert not_installed_as(device.check(hub, hub.direct(1, model="director")), "unknown-model")


@pytest.mark.parametrize(("field", "value"), [("length", 7), ("hashes", {"sha256": "0" * 64})])
def test_another_manifest_than_the_approvers_signed(
    hub: HubSimulator, device: Device, field: str, value: object
) -> None:
    def other(signed: Targets) -> None:
        setattr(signed.targets["models/digits/1/manifest.json"], field, value)

    assert not_installed_as(device.check(hub, changed(hub, other)), "not-approved")


@pytest.mark.parametrize(
    "path",
    [
        "models/digits/01/manifest.json",
        "models/digits/9007199254740993/manifest.json",
        "models/digits/1/model.onnx",
        "models/digits/1/manifest.json/",
        "models/digits/-1/manifest.json",
        "models/../1/manifest.json",
        "/models/digits/1/manifest.json",
        "models/digits\n/1/manifest.json",
    ],
)
def test_target_path_tricks(hub: HubSimulator, device: Device, path: str) -> None:
    def trick(signed: Targets) -> None:
        (target,) = signed.targets.values()
        target.path = path
        signed.targets = {path: target}

    assert refused_as(device.check(hub, changed(hub, trick)), "malformed")


def test_an_order_that_is_not_one(hub: HubSimulator, device: Device) -> None:
    def spoil(signed: Targets) -> None:
        (target,) = signed.targets.values()
        target.unrecognized_fields["custom"] = {"deployment": "../x"}

    assert refused_as(device.check(hub, changed(hub, spoil)), "malformed")


def test_two_releases_of_one_model(hub: HubSimulator, device: Device) -> None:
    def double(signed: Targets) -> None:
        (target,) = signed.targets.values()
        path = "models/digits/2/manifest.json"
        signed.targets[path] = TargetFile(
            target.length, target.hashes, path, dict(target.unrecognized_fields)
        )

    assert refused_as(device.check(hub, changed(hub, double)), "malformed")


def test_two_devices_keep_their_versions_apart(hub: HubSimulator, device: Device) -> None:
    device.check(hub, hub.direct(1, version=9))
    other = Device(root=device.root, name="cam-2")
    assert device.name == DEVICE
    assert other.check(hub, hub.direct(1, device="cam-2", version=1)).refusal is None
