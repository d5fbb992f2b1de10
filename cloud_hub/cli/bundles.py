"""Bundles for devices without a network: make one, check it, bring back the receipts."""

import argparse
import os
import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.protocol.bundle import BundleIndex
from agent.protocol.ids import is_name
from cloud_hub.bundles.checking import CheckedBundle, check_file
from cloud_hub.cli.http import HubClient, add_hub_options
from cloud_hub.cli.saying import say
from cloud_hub.errors import InputError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object

_PHASES = {"rolled-back": "rolled back", "probation": "serves, on probation"}
MEBIBYTE = 1024 * 1024
_FILENAME = re.compile(r'filename="([A-Za-z0-9][A-Za-z0-9._-]{0,127})"')


def add_commands(commands: Commands) -> None:
    group = commands.add_parser("bundle", help="updates for devices without a network, on a USB stick")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    _add_export(actions)
    parser = actions.add_parser(
        "verify",
        help="check a bundle, without a hub",
        description="Check a bundle's signatures, documents, releases and every byte, without a hub, before someone "
        "walks to a device with it.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a bundle")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FILE",
        help="a root.json that you trust (an approver's trust folder has one); without it the bundle is checked "
        "from the root it carries, whose SHA-256 is printed",
    )
    parser.set_defaults(run=_verify)
    parser = actions.add_parser(
        "import-receipt",
        help="tell the hub what became of a bundle",
        description="Import the signed receipts that devices wrote. One that was imported before changes nothing.",
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="receipts")
    add_hub_options(parser)
    parser.set_defaults(run=_import)


def _add_export(actions: Commands) -> None:
    parser = actions.add_parser(
        "export",
        help="put what devices are asked to run into one signed file",
        description="Put what devices are asked to run now, and everything that proves it, into one signed file. It "
        "assigns nothing: a rollout does.",
    )
    parser.add_argument("--device", action="append", metavar="NAME", help="for this device; once for each")
    parser.add_argument(
        "--rollout", type=int, metavar="ID", help="for every device that this rollout reached"
    )
    parser.add_argument(
        "--release",
        action="append",
        metavar="MODEL@RELEASE",
        help="make it only if each device is asked to run this release",
    )
    parser.add_argument(
        "--complete",
        action="store_true",
        help="also what the devices have committed, as for one whose disk was lost",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(), metavar="FILE", help="file or folder (default: here)"
    )
    add_hub_options(parser)
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    body = {
        "devices": arguments.device or [],
        "rollout": arguments.rollout,
        "releases": dict(_release(text) for text in arguments.release or ()),
        "complete": arguments.complete,
    }
    folder = arguments.output if arguments.output.is_dir() else arguments.output.parent
    part = folder / f".edgeward-bundle-{os.getpid()}.part"
    try:
        with part.open("xb") as file, closing(HubClient(arguments)) as hub:
            disposition = hub.download("/v1/bundles", body, file)
            file.flush()
            os.fsync(file.fileno())
        checked = check_file(part, None)
        path = arguments.output
        if path.is_dir():
            named = _FILENAME.search(disposition)
            path = folder / (named.group(1) if named else "devices.edgeward")
        part.replace(path)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    say(f"wrote {path} ({checked.size / MEBIBYTE:.1f} MiB)")
    _print(checked)


def _release(text: str) -> tuple[str, int]:
    model, _, number = text.partition("@")
    if not is_name(model) or not (number.isascii() and number.isdigit() and int(number) > 0):
        raise InputError(f"--release: {text!r} is not MODEL@RELEASE, as in digits@7")
    return model, int(number)


def _verify(arguments: argparse.Namespace) -> None:
    checked = check_file(arguments.file, arguments.root)
    say(f"OK: {arguments.file} ({checked.size / MEBIBYTE:.1f} MiB), every byte and every signature holds")
    _print(checked)
    if arguments.root is None:
        say(
            f"checked from the root it carries, SHA-256 {checked.root_sha256}: compare it, or give --root FILE"
        )


def _print(checked: CheckedBundle) -> None:
    index = checked.index
    say(f"made {_day(index.created)} by {index.created_by} on hub {index.hub}; bundle {checked.digest[:16]}…")
    say(f"can be installed until {_day(index.expires)} UTC")
    brought = _brought(index)
    for device in index.devices:
        orders = ", ".join(
            f"{order.model} {order.release}"
            + ("" if brought(order.model, order.release) else " (committed there already, not in it)")
            for order in device.orders
        )
        say(f"  {device.device} ({device.hardware_class}): {orders}")


def _brought(index: BundleIndex) -> Callable[[str, int], bool]:
    names = {file.name.rpartition("/")[0] for file in index.files if file.kind == "artifact"}
    return lambda model, release: f"models/{model}/{release}" in names


def _day(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"


def _import(arguments: argparse.Namespace) -> None:
    with closing(HubClient(arguments)) as hub:
        for path in arguments.files:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise InputError(f"{path}: {error.strerror}") from error
            _print_receipt(path, hub.post_bytes("/v1/receipts", data))


def _print_receipt(path: Path, receipt: dict[str, Any]) -> None:
    again = "" if receipt["new"] else ", imported before"
    say(f"{path}: {receipt['device']}, written {_day(receipt['time'])} UTC{again}")
    if receipt["refusal"]:
        say(f"  the bundle was refused: {receipt['refusal']['text']} ({receipt['refusal']['code']})")
    for report in receipt["deployments"]:
        why = f": {report['reason']['text']}" if report["reason"] else ""
        say(f"  {report['model']} {report['release']}: {_PHASES.get(report['phase'], report['phase'])}{why}")
