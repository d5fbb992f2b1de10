"""A hostile hub (its storage, its online key, or the line to it) against a real verifier process."""

from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets

from agent.protocol.limits import MAX_FRAME_BYTES, MAX_METADATA_BYTES
from agent.protocol.verification import FetchedMetadata, Mark, VerifyResult
from tests.fault.trust.hub_simulator import Device, HubSimulator, version_of


def refused_as(result: VerifyResult, code: str) -> bool:
    """Whether nothing at all was taken, for that reason."""
    assert result.assignments == ()
    assert result.refusal is not None, result
    return result.refusal.code == code


def not_installed_as(result: VerifyResult, code: str) -> bool:
    """Whether the repository was taken, and the one order was not, for that reason."""
    assert result.refusal is None, result.refusal
    assert result.assignments == ()
    (refused,) = result.refused
    return refused.reason.code == code


def test_rollback_of_the_whole_repository(hub: HubSimulator, device: Device) -> None:
    old = dict(hub.store.files)
    hub.approve("digits", 2)
    device.check(hub, hub.direct(2))
    hub.store.files = old
    result = device.check(hub, hub.direct(1))
    assert refused_as(result, "rollback-attack")
    assert result.metadata == {}


def test_rollback_after_a_power_loss_emptied_both_metadata_files(hub: HubSimulator, device: Device) -> None:
    """python-tuf alone takes the old repository here; the marks do not."""
    old = dict(hub.store.files)
    hub.approve("digits", 2)
    device.check(hub, hub.direct(2))
    device.metadata |= {"timestamp.json": b"", "snapshot.json": b""}
    hub.store.files = old
    result = device.check(hub, hub.direct(1))
    assert refused_as(result, "rollback-attack")
    assert result.metadata == {}
    hub.approve("digits", 2)
    hub.repository.refresh_timestamp()
    assert device.check(hub, hub.direct(2)).refusal is None


def test_rollback_after_stored_metadata_was_lost_altogether(hub: HubSimulator, device: Device) -> None:
    old = dict(hub.store.files)
    hub.approve("digits", 2)
    device.check(hub, hub.direct(2))
    device.metadata = {}
    hub.store.files = old
    assert refused_as(device.check(hub, hub.direct(1)), "rollback-attack")


@pytest.mark.parametrize("stored", ["as it was", "emptied"])
def test_rollback_of_one_models_role_by_a_stolen_online_key(
    hub: HubSimulator, device: Device, stored: str
) -> None:
    old = hub.repository.published("digits")
    hub.approve("digits", 2)
    device.check(hub, hub.direct(2))
    hub.list_unchecked("digits", old)
    if stored == "emptied":
        device.metadata |= {"snapshot.json": b"", "timestamp.json": b""}
        assert not_installed_as(device.check(hub, hub.direct(1)), "rollback-attack")
    else:
        assert refused_as(device.check(hub, hub.direct(1)), "rollback-attack")


def test_rollback_by_hiding_the_newer_root(hub: HubSimulator, device: Device) -> None:
    old = dict(hub.store.files)
    hub.rotate_online()
    device.check(hub, hub.direct(1))
    assert "2.root.json" in device.metadata
    device.metadata = {}
    hub.store.files = old
    assert refused_as(device.check(hub, hub.direct(1)), "rollback-attack")


def test_freeze_an_old_timestamp_is_served_for_ever(hub: HubSimulator, device: Device) -> None:
    document = hub.direct(1)
    device.check(hub, document)
    hub.now += timedelta(days=2)
    assert refused_as(device.check(hub, document), "expired")


def test_freeze_of_a_models_role_beyond_its_expiry(hub: HubSimulator, device: Device) -> None:
    hub.now += timedelta(days=91)
    hub.repository.refresh_timestamp()
    assert not_installed_as(device.check(hub, hub.direct(1)), "expired")


def test_mix_and_match_an_old_snapshot_under_the_new_name(hub: HubSimulator, device: Device) -> None:
    hub.approve("digits", 2)
    hub.store.files["3.snapshot.json"] = hub.store.files["2.snapshot.json"]
    assert refused_as(device.check(hub, hub.direct(2)), "mix-and-match")


def test_mix_and_match_an_old_role_under_the_new_name(hub: HubSimulator, device: Device) -> None:
    hub.approve("digits", 2)
    hub.store.files["3.digits.json"] = hub.store.files["2.digits.json"]
    assert not_installed_as(device.check(hub, hub.direct(1)), "mix-and-match")


def test_mix_and_match_one_models_role_listed_as_anothers() -> None:
    """The same approvers sign both models, so only the model's name inside tells the documents apart."""
    hub = HubSimulator(models=("digits", "faces"))
    device = Device(root=hub.store.files["1.root.json"])
    role = hub.published_role("digits")
    role.version += 1
    for path, (length, sha256) in hub.release_files("faces", 1).items():
        role.targets[path] = TargetFile(length, {"sha256": sha256}, path)
    hub.list_unchecked("faces", hub.sign_role(role, "ada", "ben"))
    result = device.check(hub, hub.direct(1, model="faces"))
    assert not_installed_as(result, "not-approved")
    assert "'digits'" in result.refused[0].reason.text


def test_one_approvers_signature_is_not_enough(hub: HubSimulator, device: Device) -> None:
    hub.list_unchecked("digits", hub.sign_draft(hub.draft("digits", 2), "ada"))
    result = device.check(hub, hub.direct(2))
    assert not_installed_as(result, "not-approved")
    assert "1/2" in result.refused[0].reason.text


def test_one_approvers_signature_under_two_key_ids_counts_once(hub: HubSimulator, device: Device) -> None:
    document = Metadata[Targets].from_bytes(hub.sign_draft(hub.draft("digits", 2), "ada"))
    (signature,) = document.signatures.values()
    signature.keyid = hub.keys.approvers["ben"].public_key.keyid
    document.signatures[signature.keyid] = signature
    document.sign(hub.keys.approvers["ada"], append=True)
    hub.list_unchecked("digits", document.to_bytes())
    assert not_installed_as(device.check(hub, hub.direct(2)), "not-approved")


def test_a_role_forged_with_every_key_of_the_hub(hub: HubSimulator, device: Device) -> None:
    """The demo's attacker: storage, database, online key and director key, but no approver's key."""
    document = Metadata[Targets].from_bytes(hub.draft("digits", 2))
    for signer in (hub.keys.online, hub.keys.director, CryptoSigner.generate_ed25519()):
        document.sign(signer, append=True)
    hub.list_unchecked("digits", document.to_bytes())
    assert not_installed_as(device.check(hub, hub.direct(2)), "not-approved")


def test_an_approved_role_changed_after_it_was_signed(hub: HubSimulator, device: Device) -> None:
    signed = hub.sign_draft(hub.draft("digits", 2), "ada", "ben")
    length, sha256 = hub.release_files("digits", 2)["models/digits/2/model.onnx"]
    assert length
    hub.list_unchecked("digits", signed.replace(sha256.encode(), b"0" * 64))
    assert not_installed_as(device.check(hub, hub.direct(2)), "not-approved")


def test_a_withdrawn_release_is_not_installed_any_more(hub: HubSimulator, device: Device) -> None:
    hub.approve("digits", 2)
    role = hub.published_role()
    role.version += 1
    role.targets = {path: file for path, file in role.targets.items() if "/1/" not in path}
    hub.repository.publish("digits", hub.sign_role(role, "ada", "cyd"))
    assert not_installed_as(device.check(hub, hub.direct(1)), "not-approved")


def test_fast_forward_with_a_stolen_online_key_ends_with_its_rotation(
    hub: HubSimulator, device: Device
) -> None:
    honest = dict(hub.store.files)
    timestamp = Metadata.from_bytes(hub.store.files["timestamp.json"])
    timestamp.signed.version = 2**40
    timestamp.sign(hub.keys.online)
    hub.store.files["timestamp.json"] = timestamp.to_bytes()
    assert device.check(hub, hub.direct(1)).refusal is None
    hub.store.files = honest
    assert refused_as(device.check(hub, hub.direct(1)), "rollback-attack")
    hub.rotate_online()
    result = device.check(hub, hub.direct(1))
    assert result.refusal is None
    assert len(result.assignments) == 1


@pytest.mark.parametrize("version", [2**53 + 1, 2**70])
def test_a_timestamp_whose_version_no_mark_could_hold(
    hub: HubSimulator, device: Device, version: int
) -> None:
    honest = dict(hub.store.files)
    timestamp = Metadata.from_bytes(hub.store.files["timestamp.json"])
    timestamp.signed.version = version
    timestamp.sign(hub.keys.online)
    hub.store.files["timestamp.json"] = timestamp.to_bytes()
    assert refused_as(device.check(hub, hub.direct(1)), "malformed")
    hub.store.files = honest
    assert device.check(hub, hub.direct(1)).refusal is None


def test_a_root_that_the_holders_did_not_sign(hub: HubSimulator, device: Device) -> None:
    hub.keys.offline = [CryptoSigner.generate_ed25519() for _ in range(3)]
    hub.rotate_online()
    assert refused_as(device.check(hub, hub.direct(1)), "bad-signature")


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json"])
def test_endless_data_is_cut_off(hub: HubSimulator, device: Device, name: str) -> None:
    hub.answers[name] = FetchedMetadata(data=b" " * (MAX_METADATA_BYTES + 1))
    assert refused_as(device.check(hub, hub.direct(1)), "malformed")


def test_an_answer_that_announces_more_than_a_frame_may_have(hub: HubSimulator, device: Device) -> None:
    hub.answers["timestamp.json"] = (MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"x" * 100
    assert refused_as(device.check(hub, hub.direct(1)), "malformed")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b'{"signed": {"_type": "timestamp"}, "signatures": []}',
    ],
    ids=["empty", "cut", "not-utf8", "deep", "null", "hollow"],
)
def test_malformed_metadata(hub: HubSimulator, device: Device, data: bytes) -> None:
    hub.answers["timestamp.json"] = FetchedMetadata(data=data)
    assert refused_as(device.check(hub, hub.direct(1)), "malformed")


def test_metadata_of_another_role_in_the_place_of_the_timestamp(hub: HubSimulator, device: Device) -> None:
    hub.answers["timestamp.json"] = FetchedMetadata(data=hub.repository.published("snapshot"))
    assert refused_as(device.check(hub, hub.direct(1)), "malformed")


def test_a_hub_that_withholds_a_file(hub: HubSimulator, device: Device) -> None:
    hub.answers["2.snapshot.json"] = FetchedMetadata(data=None)
    assert refused_as(device.check(hub, hub.direct(1)), "missing-metadata")


@pytest.mark.parametrize("filename", ["..", ".hidden", "a b", "x\n", "-rf", "a" * 200])
def test_a_release_with_a_file_name_that_escapes(hub: HubSimulator, device: Device, filename: str) -> None:
    """Approvers' clients refuse to sign these; the device does not rely on it."""
    hub.approve("digits", 2, names=(filename,))
    assert not_installed_as(device.check(hub, hub.direct(2)), "malformed")


def test_targets_outside_the_models_own_path_are_no_files_of_the_release(
    hub: HubSimulator, device: Device
) -> None:
    role = hub.published_role()
    role.version += 1
    stolen = role.targets["models/digits/1/model.onnx"]
    role.targets["models/digits/1/../../../etc/passwd"] = stolen
    role.targets["models/faces/1/manifest.json"] = stolen
    hub.repository.publish("digits", hub.sign_role(role, "ada", "ben"))
    (taken,) = device.check(hub, hub.direct(1)).assignments
    assert {file.filename for file in taken.files} == {"manifest.json", "model.onnx"}


def test_one_models_trouble_does_not_block_another() -> None:
    hub = HubSimulator(models=("digits", "faces"))
    device = Device(root=hub.store.files["1.root.json"])
    hub.approve("digits", 1)
    hub.list_unchecked("faces", hub.sign_draft(hub.draft("faces", 1), "ada"))
    result = device.check(hub, hub.direct_all({"digits": 1, "faces": 1}))
    assert [taken.model for taken in result.assignments] == ["digits"]
    assert [(refused.model, refused.reason.code) for refused in result.refused] == [("faces", "not-approved")]


def test_a_minimum_from_enrolment_keeps_a_fresh_device_from_an_old_repository(
    hub: HubSimulator, device: Device
) -> None:
    old = dict(hub.store.files)
    hub.approve("digits", 2)
    device.marks = tuple(Mark(role=role, keys="", version=v) for role, v in hub.repository.versions().items())
    newest = hub.store.files
    hub.store.files = old
    assert refused_as(device.check(hub, hub.direct(1)), "rollback-attack")
    hub.store.files = newest
    assert device.check(hub, hub.direct(2)).assignments[0].release == 2
    assert version_of(hub.repository.published("digits")) == 3


@pytest.mark.parametrize("thief", ["online", "director"])
def test_a_time_that_a_stolen_key_signed_goes_with_the_key(
    hub: HubSimulator, device: Device, thief: str
) -> None:
    """Rolled forward to the root's expiry, nothing could be installed for a year; other keys end it, and no others do."""
    device.check(hub, hub.direct(1))
    honest = hub.now
    hub.now = honest + timedelta(days=3650)
    if thief == "online":
        hub.repository.refresh_timestamp()
        assert refused_as(device.check(hub, hub.direct(1), now=honest), "expired") or device.hub_time
    else:
        device.check(hub, hub.direct(1), now=honest)
    hub.now = honest
    ahead = device.hub_time
    assert ahead == (honest + timedelta(days=365)).timestamp()
    hub.repository.sign_anew()
    assert refused_as(device.check(hub, hub.direct(1)), "expired")
    assert device.hub_time == ahead
    if thief == "online":
        hub.rotate_online()
    else:
        rotate_director(hub)
    result = device.check(hub, hub.direct(1))
    assert result.refusal is None
    assert [taken.release for taken in result.assignments] == [1]
    assert device.hub_time == honest.timestamp()
    assert device.check(hub, hub.direct(1)).refusal is None


def rotate_director(hub: HubSimulator) -> None:
    """Top-level targets that delegate to another director's key."""
    stolen, hub.keys.director = hub.keys.director, CryptoSigner.generate_ed25519()
    document = Metadata[Targets].from_bytes(hub.repository.published("targets"))
    document.signed.revoke_key(stolen.public_key.keyid, "director")
    document.signed.add_key(hub.keys.director.public_key, "director")
    document.signed.version += 1
    document.signatures.clear()
    for holder in hub.keys.offline:
        document.sign(holder, append=True)
    hub.repository.publish_role("targets", document.signed.version, document.to_bytes())
