"""``edgeward-hub labels``: tell devices what was right, and see how often models were."""

import argparse
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import msgspec

from agent.protocol.errors import ProtocolError
from agent.protocol.label_file import read_labels
from agent.protocol.labels import MAX_LABELS
from cloud_hub.cli.http import HubClient, add_hub_options
from cloud_hub.cli.saying import say
from cloud_hub.errors import InputError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object


def add_commands(commands: Commands) -> None:
    group = commands.add_parser("labels", help="tell devices what was right, and see how often models were")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    parser = actions.add_parser("send", help="send labels to a device; kept for it while it is away")
    parser.add_argument("device", metavar="DEVICE")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="CSV with the columns request and label, and if you like origin and time (Unix seconds)",
    )
    parser.add_argument(
        "--origin",
        choices=("person", "system", "model"),
        default="system",
        help="of labels that do not say it (default: %(default)s)",
    )
    add_hub_options(parser)
    parser.set_defaults(run=_send)
    parser = actions.add_parser("show", help="what was sent to a device, and what came of it")
    parser.add_argument("device", metavar="DEVICE")
    add_hub_options(parser)
    parser.set_defaults(run=_show)
    parser = actions.add_parser("accuracy", help="how often a model was right, by labels")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--device", metavar="DEVICE", help="of this device alone")
    parser.add_argument("--daily", action="store_true", help="of each day")
    add_hub_options(parser)
    parser.set_defaults(run=_accuracy)


def _send(arguments: argparse.Namespace) -> None:
    hub, sent = HubClient(arguments), 0
    try:
        with arguments.file.open(encoding="utf-8-sig", newline="") as file:
            labels = read_labels(file, arguments.origin, str(arguments.file))
            while part := tuple(islice(labels, MAX_LABELS)):
                body = {"model": arguments.model, "labels": msgspec.to_builtins(part)}
                hub.post(_path(arguments.device), body)
                sent += len(part)
    except ProtocolError as error:
        raise InputError(f"{error}; {sent} labels before it were sent") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{arguments.file} can't be read: {error}") from error
    say(f"{sent} labels wait for {arguments.device}: edgeward-hub labels show {arguments.device} …")


def _show(arguments: argparse.Namespace) -> None:
    for delivery in HubClient(arguments).get(_path(arguments.device)):
        say(
            f"{_time(delivery['created'])}  {delivery['model']}  {delivery['labels']} labels: {_outcome(delivery)}"
        )
        for answer in delivery["refused"]:
            say(f"    {answer['request']}: {answer['outcome']}: {answer['text']}")


def _outcome(delivery: dict[str, Any]) -> str:
    if delivery["problem"] is not None:
        return str(delivery["problem"])
    if delivery["settled"] is None:
        return "not acknowledged yet"
    return ", ".join(f"{count} {outcome}" for outcome, count in delivery["outcomes"].items())


def _accuracy(arguments: argparse.Namespace) -> None:
    query = {"daily": str(arguments.daily).lower()}
    if arguments.device is not None:
        query["device"] = arguments.device
    figures = HubClient(arguments).get(f"/v1/accuracy/{quote(arguments.model, safe='')}?{urlencode(query)}")
    for each in figures:
        expected = "" if each["expected"] is None else f", expected {each['expected']:.1%}"
        suspicious = f"; SUSPICIOUS on {', '.join(each['suspicious'])}" if each["suspicious"] else ""
        truth = " (no truth)" if each["origin"] == "model" else ""
        say(
            f"release {each['release']}, {each['slice'] or 'all'}, labels of {each['origin']}{truth}, "
            f"{_time(each['opened'])[:10]} to {_time(each['closed'] - 1)[:10]}: {each['correct']} of {each['rows']} right, "
            f"{each['accuracy']:.1%} ({each['low']:.1%}-{each['high']:.1%}){expected}, {each['devices']} devices{suspicious}"
        )
    if not figures:
        say(f"no labels of {arguments.model} yet (docs/labels.md)")


def _path(device: str) -> str:
    return f"/v1/devices/{quote(device, safe='')}/labels"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M")
