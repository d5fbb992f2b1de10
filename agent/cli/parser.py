"""The commands and their options; ``docs/cli.md`` is made from this."""

import argparse
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from agent.protocol.control import DEFAULT_LIMIT, MAX_LIMIT

DEFAULT_SOCKET = "/run/edgeward/control.sock"
HISTORY = 60
"""Windows in a line of verdicts."""
WIDTH = 96
"""Columns of help texts, fixed so that the documentation does not depend on a terminal."""

EXIT_CODES = """\
exit codes:
  0   done; for status: all is well
  1   the agent refused the request or failed
  2   wrong usage
  3   the agent is not running
  4   this user may not use the control socket
  5   the device has no such model
  6   the answer is not understood or did not come in time
  7   the bundle, or an update in it, was refused or rolled back
  10  status only: something is wrong with the device
"""


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no public name


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)


def default_socket() -> str:
    """The control socket: ``EDGEWARD_SOCKET``, else the service's own."""
    return os.environ.get("EDGEWARD_SOCKET") or DEFAULT_SOCKET


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="edgeward",
        description="Look after the models on this device.",
        epilog=EXIT_CODES,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"edgeward {_version()}")
    _common(parser, default=True)
    commands = parser.add_subparsers(dest="method", metavar="COMMAND", required=True)
    _add(commands, "status", "Is the device fine? If not: what is wrong, and what to do.")
    _model(_add(commands, "models", "Slots, newest deployment and figures of each model."))
    drift = _add(
        commands,
        "drift",
        "Does the input still look like the training data? If not: what moved, since when, and what to do.",
    )
    _model(drift)
    _drift(drift)
    _limit(_add(commands, "events", "What happened on the device, the newest first."))
    _label(_add(commands, "label", "Tell what was right for requests that were answered before."))
    _model(
        _add(
            commands,
            "accuracy",
            "How often models were right, by labels, beside the estimate without labels.",
        )
    )
    _add(commands, "plan", "What the agent means to do next, and why.")
    _add(
        commands, "data", "What updates and telemetry have cost: bytes over the network, and onto the flash."
    )
    _reason(
        _add(
            commands,
            "hold",
            "Download and install nothing until `resume`; what is being proven or serves goes on.",
        )
    )
    _add(commands, "resume", "End a hold.")
    rollback = _add(
        commands, "rollback", "Stop a model's update under way, or go back to the release before."
    )
    rollback.add_argument("model", metavar="MODEL", help="the model's name, as `edgeward models` shows it")
    _reason(rollback)
    accept = _add(commands, "accept", "Let the update that waits on this device be installed.")
    which = accept.add_mutually_exclusive_group(required=True)
    which.add_argument("model", metavar="MODEL", nargs="?", default=None, help="the update of this model")
    which.add_argument("--all", action="store_true", help="the updates of all models")
    accept.add_argument(
        "--now",
        action="store_true",
        help="without waiting for a maintenance window, an unmetered network, the battery or the heat",
    )
    _add(commands, "sync", "Ask the hub for the desired state and send everything that waits, now.")
    _samples(_add(commands, "samples", "Inputs that are kept on this device, if its owner has said so."))
    _bundle(_add(commands, "bundle", "Updates on a USB stick, without a network, and what became of them."))
    return parser


def _samples(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(model=None, limit=DEFAULT_LIMIT)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=False)
    show = _add(
        actions,
        "show",
        "What is kept and why, who has asked for it, and what has left the device (the default).",
    )
    _model(show)
    _limit(show)
    _add(actions, "clear", "Delete every sample, also those on their way to the hub.")
    export = _add(actions, "export", "Copy every sample into a folder, as numpy files with an index.")
    export.add_argument("folder", metavar="DIR", type=Path, help="a folder that is new or empty")


def _label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("request", metavar="REQUEST", nargs="?", help="the request's id; of a batch ID#ROW")
    parser.add_argument("label", metavar="LABEL", nargs="?", help="the class that was right")
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        help="CSV with the columns request and label, and if you like origin and time (Unix seconds); - is standard input",
    )
    parser.add_argument("--model", metavar="MODEL", help="not needed on a device with one model")
    parser.add_argument(
        "--origin",
        choices=("person", "system", "model"),
        default="person",
        help="who says so (default: %(default)s); what came from a model's own output is never counted as the truth",
    )


def _bundle(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    install = _add(
        actions,
        "install",
        "Hand a bundle to the agent, and say when the stick may be removed and what came of it.",
    )
    install.add_argument(
        "file", metavar="FILE", type=Path, help="a bundle; only you need to be able to read it"
    )
    install.add_argument(
        "--receipt",
        metavar="FILE",
        type=Path,
        help="write the receipt for the hub there when this command ends",
    )
    _wait(install)
    show = _add(
        actions, "show", "What is in a bundle, for whom, and whether every byte is there; needs no agent."
    )
    show.add_argument("file", metavar="FILE", type=Path, help="a bundle")
    _add(actions, "status", "The newest bundle that this device was handed.")
    receipt = _add(
        actions, "receipt", "Write the signed receipt of the newest bundle, to be imported by the hub."
    )
    receipt.add_argument(
        "-o", "--output", metavar="FILE", type=Path, default=Path(), help="file or folder (default: here)"
    )
    _wait(receipt)


def _wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        action="store_true",
        help="wait until every update of the bundle has ended, probation included; else until each has ended, is on "
        "probation or waits for something",
    )


def command_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Every command's own parser, by name (``bundle install``), in order."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for name, command in action.choices.items():
                inner = command_parsers(command)
                found |= {f"{name} {each}": one for each, one in inner.items()} if inner else {name: command}
    return found


def _add(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, formatter_class=_Formatter
    )
    _common(command, default=False)
    return command


def _common(parser: argparse.ArgumentParser, *, default: bool) -> None:
    """Options that may stand before or after the command; only the first place sets their default."""
    suppressed = argparse.SUPPRESS
    parser.add_argument(
        "--json",
        action="store_true",
        default=False if default else suppressed,
        help="print the answer as one JSON document",
    )
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=default_socket() if default else suppressed,
        help=f"the agent's control socket (default: $EDGEWARD_SOCKET, else {DEFAULT_SOCKET})",
    )


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", default=None, help="only this model")


def _reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="TEXT", default=None, help="why, for the record and for the hub")


def _limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_bounded,
        default=DEFAULT_LIMIT,
        help=f"how many, 1-{MAX_LIMIT} (default: {DEFAULT_LIMIT})",
    )


def _drift(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--signal", metavar="NAME", default=None, help="this signal in detail, bin by bin")
    parser.add_argument(
        "--history",
        metavar="N",
        dest="limit",
        type=_bounded,
        default=HISTORY,
        help=f"windows in the line of verdicts, 1-{MAX_LIMIT} (default: {HISTORY})",
    )
    parser.add_argument(
        "--ascii",
        action="store_true",
        help="draw without block characters (by itself where the terminal or the locale has none)",
    )


def _bounded(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_LIMIT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1-{MAX_LIMIT}")
    return int(text)


def _version() -> str:
    try:
        return version("edgeward")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
