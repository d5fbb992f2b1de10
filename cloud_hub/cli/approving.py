"""``edgeward-hub approve``: the approver's side, on the approver's own machine."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_hub.approvals.client import approve
from cloud_hub.cli.confirming import add_yes_option, confirmed
from cloud_hub.cli.http import add_hub_options, read_token
from cloud_hub.cli.signers import add_own_key, own_public_key
from cloud_hub.errors import InputError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object


def add_commands(commands: Commands) -> None:
    parser = commands.add_parser(
        "approve",
        help="check a release that waits, and sign it",
        description="Verify what the hub publishes from your own trusted root, fetch and hash every file that the release "
        "adds, show the difference, and sign exactly that. The hub is trusted with nothing.",
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("release", type=int, nargs="?", metavar="RELEASE")
    parser.add_argument(
        "--withdraw", action="store_true", help="sign that this published RELEASE is taken back"
    )
    parser.add_argument(
        "--renew",
        action="store_true",
        help="sign what is approved for longer; names no RELEASE and changes none",
    )
    add_hub_options(parser)
    parser.add_argument(
        "--trust", type=Path, required=True, metavar="DIR", help="your folder with the trusted root.json"
    )
    add_own_key(parser)
    add_yes_option(parser)
    parser.set_defaults(run=_approve)


def _approve(arguments: argparse.Namespace) -> int:
    if (arguments.release is None) != arguments.renew or (arguments.renew and arguments.withdraw):
        raise InputError("name the RELEASE to approve or to --withdraw; --renew takes none")

    def confirm(text: str) -> bool:
        print(text)
        return confirmed(arguments)

    outcome = approve(
        hub_url=arguments.hub,
        token=read_token(arguments.token_file),
        trust_dir=arguments.trust,
        key_uri=arguments.key,
        public_key_path=own_public_key(arguments),
        model=arguments.model,
        release=arguments.release,
        withdraw=arguments.withdraw,
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
