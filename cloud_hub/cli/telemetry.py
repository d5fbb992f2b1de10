"""``edgeward-hub telemetry export``."""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from agent.protocol.ids import is_name
from cloud_hub.cli.local import add_config_option
from cloud_hub.cli.saying import say
from cloud_hub.config import load_config
from cloud_hub.database import Database
from cloud_hub.errors import InputError
from cloud_hub.telemetry.export import Wish, export

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object


def add_commands(commands: Commands) -> None:
    group = commands.add_parser("telemetry", help="take telemetry out of the hub")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    parser = actions.add_parser(
        "export",
        help="write drift windows, or days, as a Parquet file",
        description="Write drift windows (or, with --days, the daily roll-ups) as a Parquet file, one row for each signal of each; "
        "the columns stand in docs/fleet-drift.md. On the hub's machine; the hub may run meanwhile.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the file; it must not be there")
    parser.add_argument(
        "--from",
        dest="start",
        required=True,
        metavar="WHEN",
        help="2026-11-28, or 2026-11-28T13:00 (UTC): closed from then on",
    )
    parser.add_argument("--to", dest="end", metavar="WHEN", help="… and before then (default: everything)")
    parser.add_argument("--model", metavar="MODEL", help="of this model only")
    parser.add_argument("--device", metavar="NAME", help="of this device only")
    parser.add_argument(
        "--days", action="store_true", help="the daily roll-ups, which are kept longer than windows"
    )
    add_config_option(parser)
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    for name in ("model", "device"):
        given = getattr(arguments, name)
        if given is not None and not is_name(given):
            raise InputError(f"--{name} {given!r}: not a name")
    start = _when("--from", arguments.start)
    end = _when("--to", arguments.end) if arguments.end else datetime.now(UTC) + timedelta(days=2)
    if end <= start:
        raise InputError(f"--to {arguments.end}: not after --from {arguments.start}")
    wish = Wish(
        what="days" if arguments.days else "windows",
        start=start.timestamp(),
        end=end.timestamp(),
        model=arguments.model,
        device=arguments.device,
    )
    _config, paths = load_config(arguments.config)
    database = Database(paths.database)
    try:
        found = database.read(lambda session: export(session, wish, arguments.out))
    finally:
        database.close()
    say(f"Wrote {arguments.out}: {found.records} {wish.what}, {found.rows} rows")


def _when(option: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r}: write 2026-11-28 or 2026-11-28T13:00 (UTC)") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
