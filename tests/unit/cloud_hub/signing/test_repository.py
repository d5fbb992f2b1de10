"""The repository as the hub runs it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from cloud_hub.signing.documents import SNAPSHOT_LIFE, TIMESTAMP_LIFE
from cloud_hub.signing.errors import (
    DraftError,
    RepositoryStateError,
    SignatureRefusedError,
    StaleDraftError,
    ThresholdNotMetError,
)
from cloud_hub.signing.repository import Repository
from cloud_hub.signing.store import FolderMetadataStore
from tests.fault.trust.hub_simulator import HubSimulator, signed_bytes


@pytest.fixture
def hub() -> HubSimulator:
    return HubSimulator(models=("digits", "faces"))


def test_a_fresh_repository(hub: HubSimulator) -> None:
    assert hub.repository.models() == ("digits", "faces")
    assert set(hub.repository.versions().values()) == {1}
    assert set(hub.repository.versions()) == {"root", "timestamp", "snapshot", "targets", "digits", "faces"}
    assert hub.repository.targets("digits") == {}
    assert sorted(hub.repository.approvers("digits").values()) == ["ada", "ben", "cyd"]
    assert hub.repository.threshold("digits") == 2


def test_publishing_raises_the_role_the_snapshot_and_the_timestamp_and_nothing_else(
    hub: HubSimulator,
) -> None:
    before = hub.repository.versions()
    hub.approve("digits", 1)
    after = hub.repository.versions()
    assert {role for role in after if after[role] != before[role]} == {"digits", "snapshot", "timestamp"}
    assert hub.repository.targets("digits") == hub.release_files("digits", 1)


def test_published_files_are_never_rewritten_but_for_the_unversioned_ones(hub: HubSimulator) -> None:
    before = dict(hub.store.files)
    hub.approve("digits", 1)
    changed = {name for name, data in before.items() if hub.store.files[name] != data}
    assert changed == {"timestamp.json"}


def test_a_draft_keeps_what_is_published(hub: HubSimulator) -> None:
    hub.approve("digits", 1)
    draft = Metadata[Targets].from_bytes(hub.draft("digits", 2)).signed
    assert set(draft.targets) == set(hub.release_files("digits", 1)) | set(hub.release_files("digits", 2))
    assert draft.version == 3
    assert draft.expires == hub.now + timedelta(days=90)


def test_a_release_is_never_changed(hub: HubSimulator) -> None:
    hub.approve("digits", 1)
    with pytest.raises(DraftError, match="a release never changes"):
        hub.draft("digits", 1)


@pytest.mark.parametrize(
    "path", ["models/faces/1/manifest.json", "models/digits/1", "models/digits/1/a/b", "x"]
)
def test_a_path_that_is_not_the_models(hub: HubSimulator, path: str) -> None:
    with pytest.raises(DraftError, match="not a path of digits"):
        hub.repository.make_draft("digits", {path: (1, "0" * 64)})


@pytest.mark.parametrize("days", [-1, 0, 91])
def test_a_life_that_is_too_long_or_over(hub: HubSimulator, days: int) -> None:
    with pytest.raises(DraftError, match="within 90 days"):
        hub.repository.make_draft("digits", {}, hub.now + timedelta(days=days))


def test_signatures_add_up_to_the_threshold(hub: HubSimulator) -> None:
    draft = hub.draft("digits", 1)
    assert not hub.repository.threshold_met(draft)
    draft = hub.sign_draft(draft, "ada")
    assert not hub.repository.threshold_met(hub.sign_draft(draft, "ada"))
    with pytest.raises(ThresholdNotMetError, match="1 of 2"):
        hub.repository.publish("digits", draft)
    draft = hub.sign_draft(draft, "cyd")
    assert hub.repository.threshold_met(draft)
    names = hub.repository.approvers("digits")
    assert {names[keyid] for keyid in hub.repository.signers(draft)} == {"ada", "cyd"}


def test_a_signature_of_a_stranger(hub: HubSimulator) -> None:
    draft = hub.draft("digits", 1)
    signature = CryptoSigner.generate_ed25519().sign(signed_bytes(draft))
    with pytest.raises(SignatureRefusedError, match="not one of its approvers"):
        hub.repository.add_signature(draft, signature)


@pytest.mark.parametrize("sig", ["", "zz", "00" * 64])
def test_a_signature_that_is_none(hub: HubSimulator, sig: str) -> None:
    keyid = hub.keys.approvers["ada"].public_key.keyid
    with pytest.raises(SignatureRefusedError, match="ada is not over this draft"):
        hub.repository.add_signature(hub.draft("digits", 1), Signature(keyid, sig))


def test_a_signature_over_another_draft(hub: HubSimulator) -> None:
    signature = hub.keys.approvers["ada"].sign(signed_bytes(hub.draft("digits", 2)))
    with pytest.raises(SignatureRefusedError):
        hub.repository.add_signature(hub.draft("digits", 1), signature)


def test_a_new_base_voids_a_draft(hub: HubSimulator) -> None:
    stale = hub.sign_draft(hub.draft("digits", 1), "ada", "ben")
    hub.approve("digits", 2)
    with pytest.raises(StaleDraftError, match="draft is version 2, but 2 is published"):
        hub.repository.publish("digits", stale)
    with pytest.raises(StaleDraftError):
        hub.sign_draft(stale, "cyd")


def test_a_draft_of_another_model(hub: HubSimulator) -> None:
    with pytest.raises(DraftError, match="of faces, not of digits"):
        hub.repository.publish("digits", hub.sign_draft(hub.draft("faces", 1), "ada", "ben"))


def test_a_draft_that_expired_before_it_was_published(hub: HubSimulator) -> None:
    draft = hub.sign_draft(hub.draft("digits", 1), "ada", "ben")
    hub.now += timedelta(days=91)
    with pytest.raises(DraftError, match="expired"):
        hub.repository.publish("digits", draft)


@pytest.mark.parametrize("data", [b"", b"{}", b"null"])
def test_a_draft_that_can_not_be_read(hub: HubSimulator, data: bytes) -> None:
    with pytest.raises(RepositoryStateError, match="draft: not TUF metadata"):
        hub.repository.threshold_met(data)


def test_the_director_is_no_model(hub: HubSimulator) -> None:
    with pytest.raises(RepositoryStateError, match="no model 'director'"):
        hub.repository.threshold("director")


def test_an_empty_store_says_what_it_lacks(tmp_path: Path) -> None:
    repository = Repository(FolderMetadataStore(tmp_path), CryptoSigner.generate_ed25519())
    with pytest.raises(RepositoryStateError, match=r"no timestamp\.json"):
        repository.versions()


def test_the_timestamp_is_renewed_and_the_snapshot_when_half_its_life_is_over(hub: HubSimulator) -> None:
    hub.now += timedelta(hours=20)
    hub.repository.refresh_timestamp()
    assert (hub.repository.versions()["timestamp"], hub.repository.versions()["snapshot"]) == (2, 1)
    timestamp = Metadata[Timestamp].from_bytes(hub.repository.published("timestamp")).signed
    assert timestamp.expires == hub.now + TIMESTAMP_LIFE
    assert timestamp.unrecognized_fields["issued"] == hub.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    hub.now += SNAPSHOT_LIFE / 2
    hub.repository.refresh_timestamp()
    assert (hub.repository.versions()["timestamp"], hub.repository.versions()["snapshot"]) == (3, 2)
    snapshot = Metadata[Snapshot].from_bytes(hub.repository.published("snapshot")).signed
    assert snapshot.expires == hub.now + SNAPSHOT_LIFE


def test_a_hub_in_another_time_zone_signs_utc(hub: HubSimulator) -> None:
    assert hub.now.tzinfo is UTC
    hub.now = datetime.now(UTC)
    hub.repository.refresh_timestamp()
    assert Metadata.from_bytes(hub.repository.published("timestamp")).signed.expires.tzinfo is UTC
