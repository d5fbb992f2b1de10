"""OpenSSF model signatures at import: real ones, made by the library that people sign with."""

from pathlib import Path

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import signing

from cloud_hub.config import ModelSigningSettings, load_config, parse_config
from cloud_hub.hub import Hub
from cloud_hub.registry.model_signing import MAX_SIGNATURE_BYTES
from tests.unit.cloud_hub.hub_world import People
from tests.unit.cloud_hub.sample_release import release_files


class Maker:
    """Who trains models and signs what leaves the training machine."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        self.private, self.public = self.folder / "maker.key", self.folder / f"{name}.pub"
        self.private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def sign(self, files: dict[str, bytes]) -> bytes:
        release = self.folder / "release"
        release.mkdir()
        for name, data in files.items():
            (release / name).write_bytes(data)
        signature = self.folder / "model.sig"
        signing.Config().use_elliptic_key_signer(private_key=self.private).sign(release, signature)
        return signature.read_bytes()


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path, "maker")


def trust(hub: Hub, *makers: Maker, required: bool = False) -> None:
    settings = ModelSigningSettings(keys=tuple(str(maker.public) for maker in makers), required=required)
    hub.config = msgspec.structs.replace(hub.config, model_signing=settings)


def hand_in(people: People, signature: bytes) -> httpx.Response:
    return people.call("author", "PUT", "/v1/releases/digits/1/model-signature", content=signature)


def test_a_signature_over_these_files_is_checked_and_kept_as_evidence(
    people: People, hub: Hub, maker: Maker, tmp_path: Path
) -> None:
    trust(hub, Maker(tmp_path, "another"), maker, required=True)
    people.upload(release_files())
    assert hand_in(people, maker.sign(release_files())).is_success
    submitted = people.submit().json()
    assert submitted["state"] == "submitted"
    assert submitted["model_signer"].startswith("key maker.pub (SHA-256 ")
    entries = people.ok("auditor", "GET", "/v1/audit")
    (entry,) = [each for each in entries if each["action"] == "submit"]
    assert entry["details"]["model_signer"] == submitted["model_signer"]


def test_other_bytes_than_the_signed_ones_are_refused_by_name(people: People, hub: Hub, maker: Maker) -> None:
    trust(hub, maker)
    signature = maker.sign({**release_files(), "card.md": b"what was signed"})
    people.upload(release_files())
    hand_in(people, signature)
    refused = people.submit()
    assert refused.status_code == 422
    assert "does not hold" in refused.json()["detail"]
    assert "Hash mismatch for 'card.md'" in refused.json()["detail"]


def test_a_signature_by_somebody_else_is_refused(
    people: People, hub: Hub, maker: Maker, tmp_path: Path
) -> None:
    trust(hub, maker)
    people.upload(release_files())
    hand_in(people, Maker(tmp_path, "stranger").sign(release_files()))
    refused = people.submit()
    assert refused.status_code == 422
    assert "key maker.pub" in refused.json()["detail"]


@pytest.mark.parametrize("bundle", [b"", b"{}", b"not json", b'{"mediaType": 1}', b"[" * 100_000])
def test_what_is_no_bundle_is_refused(people: People, hub: Hub, maker: Maker, bundle: bytes) -> None:
    trust(hub, maker)
    people.upload(release_files())
    hand_in(people, bundle)
    refused = people.submit()
    assert refused.status_code == 422
    assert "does not hold" in refused.json()["detail"]


def test_a_hub_that_requires_one_takes_no_release_without(people: People, hub: Hub, maker: Maker) -> None:
    trust(hub, maker, required=True)
    people.upload(release_files())
    refused = people.submit()
    assert refused.status_code == 422
    assert "--model-signature" in refused.json()["detail"]


def test_a_hub_that_trusts_no_signer_says_so_instead_of_passing_it_by(people: People, maker: Maker) -> None:
    people.upload(release_files())
    hand_in(people, maker.sign(release_files()))
    refused = people.submit()
    assert refused.status_code == 422
    assert "trusts no signer" in refused.json()["detail"]


def test_one_that_is_too_large_is_refused(people: People) -> None:
    people.upload(release_files())
    assert hand_in(people, bytes(MAX_SIGNATURE_BYTES + 1)).status_code == 400


def test_key_paths_start_at_hub_toml(home: Path) -> None:
    assert parse_config("[model_signing]\nrequired = true").model_signing.required
    path = home / "hub.toml"
    path.write_text('[model_signing]\nkeys = ["keys/maker.pub"]\n')
    config, _ = load_config(path)
    assert config.model_signing.keys == (str(home.resolve() / "keys" / "maker.pub"),)
