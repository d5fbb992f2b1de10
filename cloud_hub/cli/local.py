"""Commands that work on the hub's own folder."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent.protocol.ids import is_name
from cloud_hub import logs, setup
from cloud_hub.access.service import Role
from cloud_hub.audit.chain import verify
from cloud_hub.config import load_config
from cloud_hub.devices.authority import DeviceAuthority
from cloud_hub.errors import InputError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object


def add_commands(commands: Commands) -> None:
    _add_init(commands)
    _add_serve(commands)
    _add_ingest(commands)
    _add_token(commands)
    _add_broker_files(commands)
    _add_ingest_files(commands)
    _add_audit(commands)


def add_config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("hub.toml"), help="the hub's configuration (default: ./hub.toml)"
    )


def _add_init(commands: Commands) -> None:
    parser = commands.add_parser(
        "init",
        help="make a new hub in a folder",
        description="Make a new hub: configuration, database, keys, admin.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--host", default="127.0.0.1", help="loopback address of API and broker (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8500, help="port of the API and the page (default: %(default)s)"
    )
    parser.add_argument(
        "--broker-port", type=int, default=8510, help="port of the MQTT broker (default: %(default)s)"
    )
    parser.add_argument(
        "--open-dashboard", action="store_true", help="show the page without a token on this machine"
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="an empty database of PostgreSQL, postgresql+psycopg://user@host/name (default: SQLite in the folder)",
    )
    parser.set_defaults(run=_init)


def _init(arguments: argparse.Namespace) -> None:
    made = setup.create_hub(
        arguments.folder,
        host=arguments.host,
        port=arguments.port,
        broker_port=arguments.broker_port,
        open_dashboard=arguments.open_dashboard,
        database=arguments.database,
    )
    print(f"Made {made.config}")
    print(f"Admin token (seen this once, and in {arguments.folder / 'admin.token'}): {made.admin_token}")
    print("Next: edgeward-hub ceremony create, then edgeward-hub serve")


def _add_serve(commands: Commands) -> None:
    parser = commands.add_parser(
        "serve",
        help="run the hub",
        description="Run API, page, MQTT bridge and the embedded broker until SIGTERM.",
    )
    add_config_option(parser)
    parser.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> None:
    from cloud_hub.serve import serve  # noqa: PLC0415 - uvicorn and the broker take a second that other commands save

    config, paths = load_config(arguments.config)
    logs.configure(config.log)
    serve(config, paths)


def _add_ingest(commands: Commands) -> None:
    parser = commands.add_parser(
        "ingest",
        help="take telemetry, and nothing else",
        description="Take the devices' telemetry until SIGTERM, sharing it with the other processes that do. On PostgreSQL "
        "any number may run, on any machine; on SQLite one, with ingest.serve = false. See docs/ingest.md.",
    )
    parser.add_argument(
        "--name",
        type=_name,
        required=True,
        metavar="NAME",
        help="of this process: its MQTT client id, its certificate (ingest-NAME.pem) and its report carry it",
    )
    add_config_option(parser)
    parser.set_defaults(run=_ingest)


def _ingest(arguments: argparse.Namespace) -> None:
    from cloud_hub.ingest.process import ingest  # noqa: PLC0415 - paho and SQLAlchemy take a while

    config, paths = load_config(arguments.config)
    logs.configure(config.log)
    ingest(config, paths, arguments.name)


def _name(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r}: 1-64 of a-z 0-9 . _ -, no separator at either end")
    return text


def _add_token(commands: Commands) -> None:
    group = commands.add_parser("token", help="bearer tokens of people and programs")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    parser = actions.add_parser(
        "create", help="make a token; it is printed once, the hub keeps only its hash"
    )
    parser.add_argument("--role", required=True, choices=[role.value for role in Role], help="what it may do")
    parser.add_argument("--name", required=True, help="whose it is; stands in the audit log")
    add_config_option(parser)
    parser.set_defaults(run=_token)


def _token(arguments: argparse.Namespace) -> None:
    _config, paths = load_config(arguments.config)
    print(setup.new_token(paths.database, name=arguments.name, role=Role(arguments.role)))


def _add_broker_files(commands: Commands) -> None:
    parser = commands.add_parser(
        "broker-files",
        help="make the certificates of an external broker and of the hub on it",
        description="Have the hub's authority, which devices trust, sign a server certificate for an external broker and "
        "the hub's own client certificate. See packaging/mosquitto/README.md.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the six files")
    parser.add_argument(
        "--address",
        action="append",
        required=True,
        metavar="NAME",
        help="DNS name or IP address of the broker; once for each under which the hub or devices reach it",
    )
    parser.add_argument("--days", type=int, default=365, metavar="N", help="lifetime, 1-3650 (default: 365)")
    add_config_option(parser)
    parser.set_defaults(run=_broker_files)


def _broker_files(arguments: argparse.Namespace) -> None:
    _config, paths = load_config(arguments.config)
    authority = DeviceAuthority(paths.authority)
    authority.issue_broker_files(arguments.out, arguments.address, arguments.days, time.time())
    print(f"For the broker: {arguments.out}/ca.pem, revoked.pem, broker.pem, broker.key")
    print(f"For [broker.tls] in hub.toml: {arguments.out}/ca.pem, hub.pem, hub.key")


def _add_ingest_files(commands: Commands) -> None:
    parser = commands.add_parser(
        "ingest-files",
        help="make the certificate of an ingest process on an external broker",
        description="Have the hub's authority sign the client certificate of one ingest process: ingest-NAME.pem and "
        "ingest-NAME.key. The broker's acl must name its user. See packaging/mosquitto/README.md.",
    )
    parser.add_argument("--name", type=_name, required=True, metavar="NAME", help="of the process")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the files: that of [broker.tls]"
    )
    parser.add_argument("--days", type=int, default=365, metavar="N", help="lifetime, 1-3650 (default: 365)")
    add_config_option(parser)
    parser.set_defaults(run=_ingest_files)


def _ingest_files(arguments: argparse.Namespace) -> None:
    _config, paths = load_config(arguments.config)
    authority = DeviceAuthority(paths.authority)
    user = authority.issue_ingest_files(arguments.out, arguments.name, arguments.days, time.time())
    print(f"For the process: {arguments.out}/ingest-{arguments.name}.pem, ingest-{arguments.name}.key")
    print(f"Its user in the broker's acl: {user}")


def _add_audit(commands: Commands) -> None:
    group = commands.add_parser("audit", help="the audit log")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    parser = actions.add_parser(
        "verify",
        help="check an exported log, without a hub",
        description="Check the hash chain of an exported log.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON lines from GET /v1/audit/export")
    parser.set_defaults(run=_audit_verify)


def _audit_verify(arguments: argparse.Namespace) -> int:
    try:
        lines = arguments.file.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{arguments.file}: {error.strerror}") from error
    report = verify(lines)
    if report.problem is not None:
        print(f"BROKEN after {report.entries} good entries: {report.problem}", file=sys.stderr)
        return 1
    print(f"OK: {report.entries} entries, head {report.head}")
    return 0
