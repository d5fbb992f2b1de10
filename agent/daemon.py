"""``edgeward-agent``: the device's service, and the one place where its parts are put together."""

import argparse
import asyncio
import faulthandler
import importlib.metadata
import importlib.util
import logging
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec

from agent.config import AgentConfig, ServingConfig
from agent.config_file import load_config
from agent.core.privacy import protect, stricter
from agent.core.trusted_time import trusted_time
from agent.enrolled import BROKER_FILE, IDENTITY_FOLDER
from agent.errors import AgentError, ConfigError, NotEnrolledError
from agent.log import configure
from agent.protocol.codec import describe_structs
from agent.protocol.drift import CountPrivacy
from agent.protocol.enrolment import BrokerAddress
from agent.protocol.telemetry import Body
from agent.protocol.verification import FetchedMetadata, VerifyRequest, VerifyResult
from agent.service.device import Device
from agent.service.memory import open_memory
from agent.service.parts import Parts
from agent.service.receipts import ReceiptWriter
from agent.store.artifacts import ArtifactStore
from agent.store.errors import StoreError
from agent.store.events import EventLog
from agent.store.history import Keep
from agent.store.ledger import Ledger
from agent.store.open_windows import OpenWindowStore
from agent.store.outbox import Outbox
from agent.store.predictions import PredictionBounds, PredictionStore
from agent.store.sample_ledger import SampleLedger
from agent.store.windows import WindowLog
from agent.supervisor import health
from agent.supervisor.cgroup import Cgroup
from agent.supervisor.errors import AddressError, SupervisorError
from agent.supervisor.socket_group import group_id
from agent.supervisor.verifier import verify
from agent.transport.errors import TransportError
from agent.transport.identity_files import IdentityFiles
from agent.transport.mqtt import MqttLink
from agent.transport.receipt_signer import sign_receipt
from agent.transport.settings import LinkSettings
from agent.web.tls import TlsError, server_context

log = logging.getLogger(__name__)

RUNTIME_MODULES = {"onnx": ("onnxruntime",), "tflite": ("ai_edge_litert", "tflite_runtime")}
VERIFY_SECONDS = 120.0
EXIT_CONFIG = 78
"""``EX_CONFIG`` of sysexits.h: a restart won't help."""


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; 0 after a clean stop, 78 for a wrong setting or a device that was not enrolled."""
    arguments = _parser().parse_args(argv)
    try:
        config = load_config(arguments.config)
        configure(config.log)
        return int(arguments.run(config, arguments))
    except NotEnrolledError as error:
        return _fail(error, EXIT_CONFIG)
    except AgentError as error:
        return _fail(error, EXIT_CONFIG)
    except (StoreError, TransportError, SupervisorError, OSError) as error:
        return _fail(error, 1)
    except ExceptionGroup as group:
        return _fail(group.exceptions[0], 1)


def _fail(error: BaseException, code: int) -> int:
    log.error("edgeward-agent stops", exc_info=None if isinstance(error, AgentError) else error)
    sys.stderr.write(f"edgeward-agent: {error}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgeward-agent", description="The Edgeward service of one device.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = _command(commands, "run", "serve models and follow the hub until told to stop")
    run.set_defaults(run=lambda config, _: asyncio.run(_run(config)))
    check = _command(commands, "check-config", "read the configuration, say what is wrong with it, and exit")
    check.set_defaults(run=_check_config)
    enrol = _command(commands, "enrol", "trade a single-use token for this device's identity, once")
    enrol.add_argument(
        "--hub", required=True, metavar="URL", help="the hub's address, https:// (http:// on loopback)"
    )
    enrol.add_argument("--token-file", required=True, type=Path, metavar="FILE", help="file with the token")
    enrol.set_defaults(run=_enrol)
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument(
        "--config",
        type=Path,
        default=Path("/etc/edgeward/agent.toml"),
        metavar="FILE",
        help="default: %(default)s",
    )
    return command


def _check_config(config: AgentConfig, arguments: argparse.Namespace) -> int:
    try:
        _check_access(config.serving)
    except AddressError as error:
        raise ConfigError(f"{arguments.config}: {error}") from error
    except TlsError as error:
        raise ConfigError(f"{arguments.config}: serving.{error}") from error
    sys.stdout.write(f"{arguments.config}: good, device {config.device.id}\n")
    for note in (*config.serving.notes(), *config.samples.notes()):
        sys.stdout.write(f"note: {note}\n")
    return 0


def _check_access(serving: ServingConfig) -> None:
    """What settings name must be there. Whether the agent's user may use it, only that user can tell."""
    if serving.socket_group is not None:
        group_id(serving.socket_group)
    if serving.tls_files is not None:
        server_context(serving.tls_files)


def _enrol(config: AgentConfig, arguments: argparse.Namespace) -> int:
    # Here, so that the service never loads what only enrolment needs.
    from agent.enrol import enrol_device  # noqa: PLC0415

    try:
        token = arguments.token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"edgeward-agent: token file {arguments.token_file} can't be read: {error}\n")
        return 1
    enrol_device(config, arguments.hub, token)
    sys.stdout.write(f"enrolled as {config.device.id}; start it with: systemctl start edgeward-agent\n")
    return 0


async def _run(config: AgentConfig) -> int:
    describe_structs()
    faulthandler.enable()
    async with AsyncExitStack() as stack:
        parts = await _open(config, stack)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        device = await Device.assemble(parts)
        log.info("started", extra={"device": config.device.id, "boot": parts.boot})
        await device.run(stop)
    return 0


async def _open(config: AgentConfig, stack: AsyncExitStack) -> Parts:
    """Open the stores, the identity and the link.

    Raises:
        NotEnrolledError: there is no identity.
        StoreError: a store is damaged beyond repair, or can't be opened.
    """
    identity = IdentityFiles.within(config.state / IDENTITY_FOLDER)
    broker_file = config.state / BROKER_FILE
    if not identity.complete or not broker_file.exists():
        raise NotEnrolledError(
            f"{config.state}: this device is not enrolled; run `edgeward-agent enrol` first"
        )
    broker = msgspec.json.decode(broker_file.read_bytes(), type=BrokerAddress)
    config.runtime.mkdir(parents=True, exist_ok=True)
    cgroup = Cgroup.delegated()  # before any child: all of them move into the leaf that it makes
    artifacts = ArtifactStore(
        config.state / "artifacts", quota_bytes=config.device.artifact_bytes, rehash=config.device.rehash
    )
    memory = await open_memory(config.state, artifacts, partial(_migrate, config.state), stack)
    database = memory.database
    boot = secrets.token_hex(8)
    return Parts(
        config=config,
        version=version("edgeward"),
        boot=boot,
        link=MqttLink(
            _link_settings(broker, identity),
            device=config.device.id,
            boot=boot,
            clock=lambda: trusted_time(time.time(), memory.trust.hub_time),
        ),
        outbox=Outbox(
            database,
            device=config.device.id,
            maximum_bytes=config.telemetry.outbox_bytes,
            keep=Keep(bytes=config.telemetry.keep_bytes, days=config.telemetry.keep_days),
            outgoing=partial(_leaving, config.privacy.policy),
        ),
        events=EventLog(database),
        ledger=Ledger(database, clock=time.time),
        sample_ledger=SampleLedger(database),
        predictions=PredictionStore(
            database,
            PredictionBounds(
                rows=config.labels.kept_predictions,
                bytes=config.labels.kept_bytes,
                seconds=config.labels.kept_days * 86_400,
            ),
        ),
        windows=WindowLog(database),
        open_windows=OpenWindowStore(database),
        memory=memory,
        runtimes=_runtimes(),
        verify=_verify,
        receipts=ReceiptWriter(
            config.device,
            version("edgeward"),
            identity.certificate,
            partial(sign_receipt, config.state / IDENTITY_FOLDER),
            time.time,
        ),
        health=partial(health.sample, (config.state, config.runtime)),
        cgroup=cgroup,
        authority=identity.authority,
        clock=time.time,
    )


def _leaving(own: CountPrivacy | None, body: Body, release: CountPrivacy | None) -> Body | None:
    return protect(body, stricter(own, release), secrets.randbelow)


async def _verify(
    request: VerifyRequest, fetch: Callable[[str, int], Awaitable[FetchedMetadata]]
) -> VerifyResult:
    return await verify(request, fetch, timeout_seconds=VERIFY_SECONDS)


def _link_settings(broker: BrokerAddress, identity: IdentityFiles) -> LinkSettings:
    return LinkSettings(host=broker.host, port=broker.port, tls=identity.tls() if broker.tls else None)


def _runtimes() -> frozenset[str]:
    """Runtimes that are installed; looked up, never imported: they belong to the runner's process."""
    return frozenset(
        name for name, modules in RUNTIME_MODULES.items() if any(_is_usable(module) for module in modules)
    )


def _is_usable(module: str) -> bool:
    if importlib.util.find_spec(module) is None:
        return False
    # It imports beside NumPy 2, and fails at the first model.
    return module != "tflite_runtime" or importlib.metadata.version("numpy").startswith("1.")


async def _migrate(state: Path) -> str | None:
    """Make or migrate the telemetry database in a process of its own (sqlite-utils stays out of this one).

    Returns what had to be repaired, in words.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent.store.schema",
        str(state),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, problem = await child.communicate()
    if child.returncode != 0:
        raise StoreError(problem.decode(errors="replace").strip())
    outcome = msgspec.json.decode(output, type=dict[str, object])
    aside = outcome.get("quarantined")
    if aside is None:
        return None
    return f"the telemetry database was damaged ({outcome.get('problem')}); it is kept as {aside}"


if __name__ == "__main__":
    sys.exit(main())
