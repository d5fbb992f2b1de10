"""A device that was away for years, and one that is new: one check each."""

from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets

from agent.protocol.verification import Mark
from tests.fault.trust.hub_simulator import DEVICE, Device, HubSimulator


def rotate_root(hub: HubSimulator) -> None:
    """One holder hands over to another: signed by the old and by the new threshold."""
    root = Metadata[Root].from_bytes(hub.store.files["root.json"])
    old, leaving = list(hub.keys.offline), hub.keys.offline[0]
    hub.keys.offline = [*old[1:], CryptoSigner.generate_ed25519()]
    for role in ("root", "targets"):
        root.signed.revoke_key(leaving.public_key.keyid, role)
        root.signed.add_key(hub.keys.offline[-1].public_key, role)
    root.signed.version += 1
    root.signed.expires = (hub.now + timedelta(days=365)).replace(microsecond=0)
    root.signatures.clear()
    for holder in {*old, *hub.keys.offline}:
        root.sign(holder, append=True)
    data = root.to_bytes()
    hub.store.put_all({f"{root.signed.version}.root.json": data, "root.json": data})


@pytest.mark.parametrize("rotations", [20, 60])
def test_one_check_follows_every_root_since_it_was_away(rotations: int) -> None:
    """Every holder has been replaced many times over; none of the first ones could sign for this device any more."""
    hub = HubSimulator()
    hub.approve("digits", 1)
    device = Device(root=hub.store.files["1.root.json"])
    assert device.check(hub, hub.direct(1)).refusal is None
    for _ in range(rotations):
        hub.now += timedelta(days=30)
        rotate_root(hub)
    targets = Metadata.from_bytes(hub.store.files["1.targets.json"])
    targets.signed.version = 2
    targets.signed.expires = hub.now + timedelta(days=300)
    targets.signatures.clear()
    for holder in hub.keys.offline:
        targets.sign(holder, append=True)
    hub.repository.publish_role("targets", 2, targets.to_bytes())
    hub.approve("digits", 2)
    hub.asked.clear()
    result = device.check(hub, hub.direct(2))
    assert result.refusal is None
    assert [taken.release for taken in result.assignments] == [2]
    newest = rotations + 1
    assert {mark.version for mark in result.marks if mark.role == "root"} >= {newest}
    assert hub.asked[: rotations + 1] == [f"{version}.root.json" for version in range(2, newest + 2)]
    hub.asked.clear()
    assert device.check(hub, hub.direct(2)).refusal is None
    assert hub.asked == [f"{newest + 1}.root.json", "timestamp.json"]


def test_more_roots_than_one_check_follows_take_two_and_no_device_is_ever_left_behind() -> None:
    hub = HubSimulator()
    hub.approve("digits", 1)
    device = Device(root=hub.store.files["1.root.json"])
    for _ in range(300):
        rotate_root(hub)
    newest = []
    for _ in range(3):
        result = device.check(hub, None)
        newest.append(max(mark.version for mark in result.marks if mark.role == "root"))
    assert newest == [257, 301, 301]
    rotate_root(hub)
    hub.asked.clear()
    device.check(hub, None)
    assert hub.asked[:2] == ["302.root.json", "303.root.json"]


def old_state(hub: HubSimulator) -> tuple[dict[str, bytes], bytes]:
    """What a thief kept of the hub: every file, and the director's document of the time."""
    return dict(hub.store.files), hub.direct(1)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "digits"])
def test_a_fresh_device_takes_nothing_older_than_at_its_enrolment(
    hub: HubSimulator, device: Device, role: str
) -> None:
    """One mark alone, so that each is known to hold by itself."""
    files, document = old_state(hub)
    hub.approve("digits", 2)
    device.marks = (Mark(role=role, keys="", version=hub.repository.versions()[role]),)
    hub.store.files = files
    result = device.check(hub, document)
    reasons = [result.refusal] if result.refusal is not None else [each.reason for each in result.refused]
    assert [reason.code for reason in reasons] == ["rollback-attack"]
    assert result.assignments == ()


def test_a_device_that_enrols_again_takes_no_older_orders(hub: HubSimulator, device: Device) -> None:
    document = hub.direct(1)
    hub.direct(1)
    device.marks = (Mark(role=f"director:{DEVICE}", keys="", version=2),)
    result = device.check(hub, document)
    assert result.refusal is not None
    assert result.refusal.code == "rollback-attack"
    assert device.check(hub, hub.direct(1)).assignments[0].release == 1


def test_a_fresh_device_with_every_minimum_takes_what_is_current(hub: HubSimulator, device: Device) -> None:
    device.marks = tuple(Mark(role=role, keys="", version=v) for role, v in hub.repository.versions().items())
    assert {"root", "timestamp", "snapshot", "targets", "digits"} <= {mark.role for mark in device.marks}
    assert device.check(hub, hub.direct(1)).assignments[0].release == 1


def test_an_approvers_role_run_ahead_ends_with_the_approvers_keys(hub: HubSimulator, device: Device) -> None:
    """Fast-forward by stolen approvers' keys: the mark lasts as long as those keys could sign, and no longer."""
    role = hub.published_role()
    honest = role.version
    role.version = 2**40
    hub.repository.publish_role("digits", role.version, hub.sign_role(role, "ada", "ben"))
    assert device.check(hub, hub.direct(1)).refusal is None
    assert {mark.role: mark.version for mark in device.marks}["digits"] == 2**40
    role.version = honest + 1
    hub.repository.publish_role("digits", role.version, hub.sign_role(role, "ada", "ben"))
    assert not device.check(hub, hub.direct(1)).assignments

    replace_approvers(hub)
    hub.rotate_online()  # the snapshot's own memory of versions goes with the key that signed it
    hub.repository.publish_role("digits", role.version, hub.sign_role(role, "ada", "ben"))
    result = device.check(hub, hub.direct(1))
    assert result.refusal is None
    assert [taken.release for taken in result.assignments] == [1]


def replace_approvers(hub: HubSimulator) -> None:
    """The root holders give the model to other people."""
    targets = Metadata[Targets].from_bytes(hub.store.files["1.targets.json"])
    for name, leaving in list(hub.keys.approvers.items()):
        hub.keys.approvers[name] = CryptoSigner.generate_ed25519()
        targets.signed.revoke_key(leaving.public_key.keyid, "digits")
        targets.signed.add_key(hub.keys.approvers[name].public_key, "digits")
    targets.signed.version += 1
    targets.signatures.clear()
    for holder in hub.keys.offline:
        targets.sign(holder, append=True)
    hub.repository.publish_role("targets", targets.signed.version, targets.to_bytes())


def test_rotated_online_keys_bring_no_old_targets_back(hub: HubSimulator, device: Device) -> None:
    """The specification's recovery would take them; whoever stole online keys twice could use that (decision 0019)."""
    old = hub.store.files["1.targets.json"]
    targets = Metadata[Targets].from_bytes(old)
    targets.signed.version = 2
    targets.signatures.clear()
    for holder in hub.keys.offline:
        targets.sign(holder, append=True)
    hub.repository.publish_role("targets", 2, targets.to_bytes())
    assert device.check(hub, hub.direct(1)).refusal is None
    hub.rotate_online()
    hub.repository.publish_role("targets", 1, old)
    refusal = device.check(hub, hub.direct(1)).refusal
    assert refusal is not None
    assert refusal.code == "rollback-attack"


def test_rotated_online_keys_bring_no_withdrawn_release_back(hub: HubSimulator, device: Device) -> None:
    old = hub.repository.published("digits")
    hub.approve("digits", 2)
    assert device.check(hub, hub.direct(2)).refusal is None
    hub.rotate_online()
    hub.list_unchecked("digits", old)
    (refused,) = device.check(hub, hub.direct(1)).refused
    assert refused.reason.code == "rollback-attack"
