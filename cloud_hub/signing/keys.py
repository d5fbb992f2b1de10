"""Key files: an ed25519 private key as ``<name>.pem`` (PKCS#8, mode 0600), its public half as ``<name>.pub.json``.

Signers are opened by ``securesystemslib`` URI, so ``file2:/path/to/key.pem`` may as well be ``hsm:…``,
``gcpkms:…`` or ``awskms:…``; only the public half must be a file.
"""

import json
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from securesystemslib.exceptions import KeyMismatchError, UnsupportedLibraryError
from securesystemslib.signer import CryptoSigner, Key, Signer

from agent.protocol.ids import is_name
from agent.protocol.words import one_line
from cloud_hub.signing.errors import KeyFileError

NAME_FIELD = "x-edgeward-name"
"""Field of a key in the metadata: whose key it is, so that a release's signers can be read."""
NAME_CHARACTERS = 64


def create_key(folder: Path, name: str) -> CryptoSigner:
    """Make a new ed25519 key pair as ``folder/<name>.pem`` and ``folder/<name>.pub.json``.

    Raises:
        KeyFileError: ``name`` breaks the rule of names, or one of the files exists.
    """
    if not is_name(name):
        raise KeyFileError(
            f"key name {name!r}: allowed are 1-64 of a-z 0-9 . _ -, no separator at either end"
        )
    signer = CryptoSigner.generate_ed25519()
    signer.public_key.unrecognized_fields[NAME_FIELD] = name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _create(private_path(folder, name), signer.private_bytes, 0o600)
    save_public_key(public_path(folder, name), signer.public_key)
    return signer


def private_path(folder: Path, name: str) -> Path:
    """Where :func:`create_key` puts the private half."""
    return folder / f"{name}.pem"


def public_path(folder: Path, name: str) -> Path:
    """Where :func:`create_key` puts the public half."""
    return folder / f"{name}.pub.json"


def uri_path(folder: Path, name: str) -> Path:
    """Where the URI of a key stands that is kept elsewhere."""
    return folder / f"{name}.uri"


def save_public_key(path: Path, key: Key) -> None:
    """Write a public key file; raises KeyFileError where there is one."""
    public = {"keyid": key.keyid, **key.to_dict()}
    _create(path, json.dumps(public, indent=2).encode() + b"\n", 0o644)


def named_key(key: Key, name: str) -> Key:
    """The key with its owner's name in it.

    Raises:
        KeyFileError: ``name`` breaks the rule of names.
    """
    if not is_name(name):
        raise KeyFileError(
            f"key name {name!r}: allowed are 1-64 of a-z 0-9 . _ -, no separator at either end"
        )
    fields = key.to_dict()
    fields[NAME_FIELD] = name
    return Key.from_dict(key.keyid, fields)


def load_public_key(path: Path) -> Key:
    """Read a public key file.

    Raises:
        KeyFileError: it is missing, or not a public key as JSON.
    """
    try:
        fields = json.loads(path.read_bytes())
        return Key.from_dict(fields.pop("keyid"), fields)
    except OSError as error:
        raise KeyFileError(f"public key {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KeyFileError(f"public key {path}: not a public key as JSON ({error!r})") from error


def file_uri(private: Path) -> str:
    """The signer URI of a private key file."""
    return f"file2:{private.absolute()}"


def load_signer(uri: str, public: Key) -> Signer:
    """Open a signer by ``securesystemslib`` URI, for instance ``file2:/home/ada/keys/ada.pem``.

    Raises:
        KeyFileError: the scheme is unknown, the key can't be read, or it is not the one of ``public``.
    """
    try:
        return Signer.from_priv_key_uri(uri, public)
    except FileNotFoundError as error:
        raise KeyFileError(f"private key {uri}: no such file") from error
    except KeyMismatchError as error:
        raise KeyFileError(f"private key {uri}: not the private half of {key_name(public)}") from error
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm, UnsupportedLibraryError) as error:
        raise KeyFileError(f"private key {uri}: {error}") from error


def open_key(folder: Path, name: str) -> Signer:
    """Open ``<name>``: the pair that :func:`create_key` made, or what ``<name>.uri`` says; raises like the loaders."""
    kept = uri_path(folder, name)
    uri = kept.read_text().strip() if kept.exists() else file_uri(private_path(folder, name))
    return load_signer(uri, load_public_key(public_path(folder, name)))


def key_name(key: Key) -> str:
    """Whose key it is: the name in the key, or the start of its id; one line, whoever made the key."""
    name = key.unrecognized_fields.get(NAME_FIELD)
    return one_line(name, NAME_CHARACTERS) if isinstance(name, str) else one_line(key.keyid[:8])


def _create(path: Path, data: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise KeyFileError(f"{path}: exists already; a key is never overwritten") from error
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
