"""Key files and signer URIs."""

import stat
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from cloud_hub.signing.errors import KeyFileError
from cloud_hub.signing.keys import (
    create_key,
    file_uri,
    key_name,
    load_public_key,
    load_signer,
    open_key,
    private_path,
    public_path,
)


def test_what_was_made_can_be_opened_and_signs(tmp_path: Path) -> None:
    made = create_key(tmp_path, "ada")
    public = load_public_key(public_path(tmp_path, "ada"))
    assert public == made.public_key
    public.verify_signature(open_key(tmp_path, "ada").sign(b"x"), b"x")


def test_the_private_half_is_for_its_owner_only(tmp_path: Path) -> None:
    create_key(tmp_path / "keys", "ada")
    assert stat.S_IMODE(private_path(tmp_path / "keys", "ada").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_the_public_half_says_whose_it_is_and_holds_no_secret(tmp_path: Path) -> None:
    made = create_key(tmp_path, "ada")
    text = public_path(tmp_path, "ada").read_text()
    assert key_name(load_public_key(public_path(tmp_path, "ada"))) == "ada"
    assert made.private_bytes.decode().splitlines()[1] not in text


def test_a_key_without_a_name_is_called_by_its_id() -> None:
    key = CryptoSigner.generate_ed25519().public_key
    assert key_name(key) == key.keyid[:8]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    create_key(tmp_path, "ada")
    before = private_path(tmp_path, "ada").read_bytes()
    with pytest.raises(KeyFileError, match="exists already"):
        create_key(tmp_path, "ada")
    assert private_path(tmp_path, "ada").read_bytes() == before


@pytest.mark.parametrize("name", ["", "../x", "Ada", "a b", "a\n"])
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyFileError, match="key name"):
        create_key(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keyid": "a", "keytype": 1}', b"\xff"])
def test_a_public_key_that_can_not_be_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pub.json"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match="not a public key"):
        load_public_key(path)


def test_a_missing_public_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        load_public_key(tmp_path / "x.pub.json")


def test_private_keys_that_can_not_be_opened(tmp_path: Path) -> None:
    public = create_key(tmp_path, "ada").public_key
    create_key(tmp_path, "ben")
    (tmp_path / "junk.pem").write_bytes(b"junk")
    with pytest.raises(KeyFileError, match="no such file"):
        load_signer(file_uri(tmp_path / "none.pem"), public)
    with pytest.raises(KeyFileError, match="not the private half of ada"):
        load_signer(file_uri(private_path(tmp_path, "ben")), public)
    with pytest.raises(KeyFileError):
        load_signer(file_uri(tmp_path / "junk.pem"), public)
    with pytest.raises(KeyFileError, match="Unsupported private key scheme"):
        load_signer("ftp:x", public)
