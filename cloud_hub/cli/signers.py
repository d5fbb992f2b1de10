"""Private keys on the command line: ``securesystemslib`` URIs, each with its public half."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (
    AWSSigner,
    AzureSigner,
    GCPSigner,
    GPGSigner,
    HSMSigner,
    Key,
    Signer,
    VaultSigner,
)

from cloud_hub.cli.confirming import add_yes_option
from cloud_hub.errors import InputError
from cloud_hub.signing.keys import NAME_FIELD, load_public_key, load_signer, named_key, save_public_key

FILE_SCHEME = "file2:"
IMPORTERS: dict[str, Callable[..., tuple[str, Key]]] = {
    "awskms": AWSSigner.import_,
    "azurekms": AzureSigner.import_,
    "gcpkms": GCPSigner.import_,
    "gnupg": GPGSigner.import_,
    "hsm": HSMSigner.import_,
    "hv": VaultSigner.import_,
}


def add_key_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="URI",
        help="a private key, as in file2:/home/ada/keys/ada.pem, hsm:…, gcpkms:…, awskms:…, azurekms:…, hv:… or gnupg:…; may be "
        "repeated",
    )
    parser.add_argument(
        "--public-key",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="public half of a key that is no file, in the order of these keys (of file2: it is the .pub.json beside it)",
    )
    add_yes_option(parser)


def add_own_key(parser: argparse.ArgumentParser) -> None:
    """The one key of a person who signs for themselves."""
    parser.add_argument(
        "--key",
        required=True,
        metavar="URI",
        help="your private key, as in file2:/home/ada/keys/ada.pem or hsm:…",
    )
    parser.add_argument(
        "--public-key",
        type=Path,
        metavar="FILE",
        help="its public half (default for file2: the .pub.json beside it)",
    )


def own_public_key(arguments: argparse.Namespace) -> Path:
    """Raises InputError where ``--public-key`` is needed and missing."""
    path = arguments.public_key or beside(arguments.key)
    if path is None:
        raise InputError("--public-key FILE is needed for a key that is no file")
    return Path(path)


def given_signers(arguments: argparse.Namespace) -> list[Signer]:
    """Open every ``--key``.

    Raises:
        InputError: a key that is no file has no ``--public-key``.
        KeyFileError: one can't be opened.
    """
    halves = iter(arguments.public_key)
    signers = []
    for uri in arguments.key:
        path = beside(uri) or next(halves, None)
        if path is None:
            raise InputError(f"--public-key FILE is needed for {uri}, which is no file")
        signers.append(load_signer(uri, load_public_key(path)))
    return signers


def beside(uri: str) -> Path | None:
    """Where the public half of a key file stands; None: the key is no file."""
    if not uri.startswith(FILE_SCHEME):
        return None
    private = Path(uri.removeprefix(FILE_SCHEME))
    return private.with_name(f"{private.stem}.pub.json")


def read_public_keys(paths: Iterable[Path]) -> list[Key]:
    """Public key files; a key without a name takes its file's."""
    keys = []
    for path in paths:
        key = load_public_key(path)
        named = key.unrecognized_fields.get(NAME_FIELD)
        keys.append(
            key if named else named_key(key, path.name.removesuffix(".pub.json").removesuffix(".json"))
        )
    return keys


def import_key(kind: str, ids: Sequence[str], name: str, out: Path) -> None:
    """Write the public half of a key that is kept elsewhere, and print the URI to sign with.

    Raises:
        InputError: the library for it is missing, the service says no, or it wants other ids.
    """
    try:
        uri, key = IMPORTERS[kind](*ids)
    except (UnsupportedLibraryError, ImportError) as error:
        raise InputError(f"{kind}: {error}") from error
    except TypeError as error:
        raise InputError(f"{kind}: it takes other ids than {list(ids)} ({error})") from error
    except Exception as error:  # each service has errors of its own
        raise InputError(f"{kind}: the key could not be read: {error}") from error
    save_public_key(out, named_key(key, name))
    print(f"{out}: key id {key.keyid}")
    print(f"Sign with: --key {uri} --public-key {out}")
