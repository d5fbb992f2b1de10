"""A ceremony's file on the command line: shown, signed on a holder's machine, published on the hub, checked, rehearsed."""

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from securesystemslib.signer import Signer

from cloud_hub.cli.ceremony import publish_ceremony
from cloud_hub.cli.checking import add_check
from cloud_hub.cli.confirming import confirmed
from cloud_hub.cli.rehearsal import add_rehearse, rehearse
from cloud_hub.cli.signers import add_key_options, given_signers
from cloud_hub.config import Paths, load_config
from cloud_hub.durable import write_durably
from cloud_hub.errors import InputError
from cloud_hub.signing.ceremony_file import CeremonyFile, decode, encode, examine, sign
from cloud_hub.signing.trust_folder import TrustFolder
from cloud_hub.signing.words import describe, progress

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object


def add_file_commands(actions: Commands) -> None:
    parser = actions.add_parser("show", help="what a ceremony file would change, and who has still to sign")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.set_defaults(run=_show)
    parser = actions.add_parser(
        "sign",
        help="add one's signature to a ceremony file, on one's own machine",
        description="Check the file from your own trusted root, show what it would change, and sign the parts that need you. The "
        "hub and the holders before you are trusted with nothing.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="is written anew with the signature")
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="DIR",
        help="your folder with the trusted root.json (not for the very first ceremony)",
    )
    add_key_options(parser)
    parser.set_defaults(run=_sign)
    parser = actions.add_parser("publish", help="publish a ceremony file that is complete, on the hub")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "--config", type=Path, default=Path("hub.toml"), help="the hub's configuration (default: ./hub.toml)"
    )
    parser.set_defaults(run=_publish_file)
    add_check(
        actions.add_parser("check", help="whether all that is published verifies from a root, and until when")
    )
    parser = actions.add_parser(
        "rehearse", help="run every command of docs/key-ceremonies.md in a scratch folder, each one shown"
    )
    add_rehearse(parser)
    parser.set_defaults(run=_rehearse)


def _rehearse(arguments: argparse.Namespace) -> None:
    from cloud_hub.cli import main  # noqa: PLC0415 - this module is a part of it

    rehearse(arguments, main)


def _read(path: Path) -> CeremonyFile:
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _show(arguments: argparse.Namespace) -> None:
    ceremony = examine(_read(arguments.file))
    print(describe(ceremony))
    print(progress(ceremony))


def _sign(arguments: argparse.Namespace) -> int:
    file = _read(arguments.file)
    ceremony = examine(file)
    if ceremony.before is not None:
        if arguments.trust is None:
            raise InputError("--trust DIR is needed: the folder with the root.json that you trust")
        trust = TrustFolder(arguments.trust)
        trust.accept(tuple(root.encode() for root in file.roots), ceremony.before)
    print(describe(ceremony))
    signers = given_signers(arguments)
    if not signers:
        raise InputError("--key URI is needed: your private key")
    if not confirmed(arguments):
        print("Nothing was signed.")
        return 1
    file = sign_with(file, signers)
    write_durably(arguments.file, encode(file))
    print(progress(examine(file)))
    return 0


def _publish_file(arguments: argparse.Namespace) -> None:
    _config, paths = load_config(arguments.config)
    file = _read(arguments.file)
    print(describe(examine(file)))
    publish_and_tell(paths, file, arguments.file.stem)


def sign_with(file: CeremonyFile, signers: list[Signer]) -> CeremonyFile:
    """The file with each one's signature; raises CeremonyError where one has nothing to sign."""
    for signer in signers:
        file = sign(examine(file), signer)
    return file


def publish_and_tell(paths: Paths, file: CeremonyFile, kind: str) -> None:
    """Publish a complete file and print the root's digest."""
    root = publish_ceremony(paths, examine(file), kind)
    print("Published.")
    print(f"SHA-256 of root.json: {hashlib.sha256(root).hexdigest()}")
