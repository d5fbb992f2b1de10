"""Bundles that lie, against the real verifier child: what the index says must be signed, for this device, and current."""

from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner

from agent.protocol.bundle import BundleIndex
from agent.protocol.envelope import RECEIPT_TYPE, pae, seal
from agent.protocol.verification import VerifyRequest, VerifyResult
from tests.fault.trust.hub_simulator import DEVICE, Device, HubSimulator, run_verifier
from tests.support.bundles import envelope_of, index_of

FILES = {("metadata", "1.root.json"): b"{}"}


def index(hub: HubSimulator, *, device: str = DEVICE, days: float = 30) -> BundleIndex:
    expires = (hub.now + timedelta(days=days)).timestamp()
    return index_of(FILES, devices=(device,), created=hub.now.timestamp(), expires=expires)


def check(hub: HubSimulator, device: Device, bundle: bytes) -> VerifyResult:
    request = VerifyRequest(
        device=device.name,
        root=device.root,
        metadata=device.metadata,
        marks=device.marks,
        now=hub.now.timestamp(),
        director=hub.direct(),
        bundle=bundle,
    )
    return run_verifier(request, hub.answer)


def test_what_the_director_signed_for_this_device_is_taken(hub: HubSimulator, device: Device) -> None:
    result = check(hub, device, envelope_of(index(hub), hub.keys.director))
    assert result.refusal is None
    assert [each.release for each in result.assignments] == [1]


@pytest.mark.parametrize("key", ["stranger", "online", "approver"])
def test_an_index_signed_by_anyone_else_is_refused(hub: HubSimulator, device: Device, key: str) -> None:
    signer = {
        "stranger": CryptoSigner.generate_ed25519(),
        "online": hub.keys.online,
        "approver": hub.keys.approvers["ada"],
    }[key]
    result = check(hub, device, envelope_of(index(hub), signer))
    assert result.refusal is not None
    assert result.refusal.code == "bad-signature"
    assert result.refusal.text == "the bundle's index is signed by 0 of 1 director's keys of this hub"
    assert result.assignments == ()


def test_an_index_for_another_device_is_refused(hub: HubSimulator, device: Device) -> None:
    result = check(hub, device, envelope_of(index(hub, device="camera-9"), hub.keys.director))
    assert result.refusal is not None
    assert (result.refusal.code, result.refusal.text) == ("wrong-device", f"the bundle is not for {DEVICE}")


def test_an_expired_bundle_is_refused_though_its_metadata_are_current(
    hub: HubSimulator, device: Device
) -> None:
    result = check(hub, device, envelope_of(index(hub, days=-1), hub.keys.director))
    assert result.refusal is not None
    assert result.refusal.code == "expired"
    assert "the bundle expired at" in result.refusal.text


def test_something_else_that_the_director_signed_is_no_bundle(hub: HubSimulator, device: Device) -> None:
    """A signature binds what it was made for: neither a document nor a receipt can stand in for an index."""
    for data in (hub.direct(), b"{}", b"\xff", _as_receipt(hub)):
        result = check(hub, device, data)
        assert result.refusal is not None
        assert result.refusal.code == "malformed"


def _as_receipt(hub: HubSimulator) -> bytes:
    signature = hub.keys.director.sign(pae(RECEIPT_TYPE, b"{}"))
    return seal(RECEIPT_TYPE, b"{}", signature.keyid, bytes.fromhex(signature.signature), limit=10_000)


def test_a_bundle_from_before_the_director_was_replaced_is_refused(hub: HubSimulator, device: Device) -> None:
    old = envelope_of(index(hub), hub.keys.director)
    hub.keys.director = CryptoSigner.generate_ed25519()
    hub.remake()  # the holders' new targets: another director
    hub.approve("digits", 1)
    device.root = hub.store.files["1.root.json"]
    result = check(hub, device, old)
    assert result.refusal is not None
    assert result.refusal.code == "bad-signature"
