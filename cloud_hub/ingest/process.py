"""``edgeward-hub ingest``: telemetry and nothing else, in a process of its own; any number of them on PostgreSQL."""

import faulthandler
import fcntl
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import msgspec

from agent.protocol.codec import describe_structs
from agent.protocol.topics import Channel, topic
from cloud_hub.bridge.counters import BridgeCounters
from cloud_hub.config import BrokerSettings, HubConfig, Paths
from cloud_hub.database import Database
from cloud_hub.errors import ConfigError, ConflictError
from cloud_hub.ingest.service import Ingest
from cloud_hub.ingest.wire_link import WireLink
from cloud_hub.mqtt import SHARED

log = logging.getLogger(__name__)

GARBAGE_OBJECTS = 200_000
"""A group of batches is so many objects, of which none is part of a ring: looking for rings in them, as often as Python does by
itself, took 40 % of the time of a group."""


def ingest(config: HubConfig, paths: Paths, name: str) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        config: of the hub.
        paths: of the hub; of its data folder nothing is needed where the database is PostgreSQL.
        name: of this process among those of the hub.

    Raises:
        ConfigError: the broker is the embedded one, or this process has no certificate of its own.
        ConflictError: another process ingests into the same SQLite file.
    """
    broker = _own_identity(config, name)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    describe_structs()
    faulthandler.enable()
    with ExitStack() as running:
        running.enter_context(only_one(paths))
        database = running.enter_context(closing(Database(paths.database)))
        database.migrate()
        counters = BridgeCounters()
        full_name = f"{config.name}-ingest-{name}"
        subscription = SHARED + topic("+", Channel.TELEMETRY)
        link = WireLink(broker, f"edgeward-{full_name}", subscription, counters.count)
        running.callback(link.close)
        worker = Ingest(full_name, database, link, counters, time.time)
        running.callback(worker.stop)
        worker.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_OBJECTS)
        log.info("ingest starts", extra={"process_name": full_name})
        stop.wait()
    log.info("ingest stopped")


def certificate_files(authority_side: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key of the ingest process ``name``, beside the hub's own."""
    return authority_side / f"ingest-{name}.pem", authority_side / f"ingest-{name}.key"


def _own_identity(config: HubConfig, name: str) -> BrokerSettings:
    """The broker gives a certificate one connection, so each process has one of its own."""
    broker = config.broker
    if broker.embedded:
        raise ConfigError(
            "the embedded broker (broker.embedded = true) is part of edgeward-hub serve, which ingests as well; "
            "a process of its own needs an external broker"
        )
    if broker.tls is None:
        return broker
    certificate, key = certificate_files(Path(broker.tls.certificate).parent, name)
    for path in (certificate, key):
        if not path.exists():
            raise ConfigError(
                f"{path}: no such file; the broker knows this process by a certificate of its own: "
                f"edgeward-hub ingest-files --name {name} --out {certificate.parent}"
            )
    tls = msgspec.structs.replace(broker.tls, certificate=str(certificate), key=str(key))
    return msgspec.structs.replace(broker, tls=tls)


@contextmanager
def only_one(paths: Paths) -> Iterator[None]:
    """On SQLite, which takes one writer at a time, be the only process that ingests; on PostgreSQL there may be many.

    Raises:
        ConflictError: there is one already.
    """
    if paths.url is not None:
        yield
        return
    handle = os.open(paths.ingest_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another process ingests into {paths.database} already (edgeward-hub serve does, unless ingest.serve = false); "
                "SQLite takes one writer at a time: for more of them set database to PostgreSQL"
            ) from None
        yield
    finally:
        os.close(handle)
