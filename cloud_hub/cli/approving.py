"""``edgeward-hub approve``: the approver's side, on the approver's own machine."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_hub.approvals.client import approve
from cloud_hub.cli.http import add_hub_options, read_token
from cloud_hub.errors import InputError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object

FILE_SCHEME = "file2:"


def add_commands(commands: Commands) -> None:
    parser = commands.add_parser(
        "approve",
        help="check a release that waits, and sign it",
        description="Verify what the hub publishes from your own trusted root, fetch and hash every file that the release "
        "adds, show the difference, and sign exactly that. The hub is trusted with nothing.",
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("release", type=int, metavar="RELEASE")
    add_hub_options(parser)
    parser.add_argument(
        "--trust", type=Path, required=True, metavar="DIR", help="your folder with the trusted root.json"
    )
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
    parser.add_argument(
        "--yes", action="store_true", help="sign without asking (the difference is still shown)"
    )
    parser.set_defaults(run=_approve)


def _approve(arguments: argparse.Namespace) -> int:
    def confirm(text: str) -> bool:
        print(text)
        if arguments.yes:
            return True
        try:
            answer = input("Sign this? [y/N] ")
        except EOFError:  # nobody is there to answer
            return False
        return answer.strip().lower() in {"y", "yes"}

    outcome = approve(
        hub_url=arguments.hub,
        token=read_token(arguments.token_file),
        trust_dir=arguments.trust,
        key_uri=arguments.key,
        public_key_path=_public_key(arguments),
        model=arguments.model,
        release=arguments.release,
        confirm=confirm,
    )
    if outcome.receipt is None:
        print("Nothing was signed.")
        return 1
    signed = ", ".join(outcome.receipt.signed_by)
    state = (
        "published"
        if outcome.receipt.published
        else f"waiting, {outcome.receipt.threshold} signatures are needed"
    )
    print(f"Signed. So far by {signed}: {state}.")
    return 0


def _public_key(arguments: argparse.Namespace) -> Path:
    if arguments.public_key is not None:
        return Path(arguments.public_key)
    if not arguments.key.startswith(FILE_SCHEME):
        raise InputError("--public-key FILE is needed for a key that is no file")
    private = Path(arguments.key.removeprefix(FILE_SCHEME))
    return private.with_name(f"{private.stem}.pub.json")
