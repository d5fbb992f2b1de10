"""What one message is may not matter to the others; the database may go away and come back."""

import time
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from agent.protocol.batch_codec import encode_batch
from agent.protocol.telemetry import Record, TelemetryBatch
from cloud_hub.bridge.counters import BridgeCounters
from cloud_hub.config import BrokerSettings, BrokerTls, HubConfig, Paths
from cloud_hub.database import Database
from cloud_hub.errors import ConfigError, ConflictError
from cloud_hub.ingest.process import ingest, only_one
from cloud_hub.ingest.report import processes
from cloud_hub.ingest.service import Ingest
from cloud_hub.mqtt import Message, MqttLink
from tests.integration.cloud_hub.ingest.conftest import enrol, event, rows


def sent(device: str, sequence: int, *, topic_of: str | None = None) -> Message:
    record = Record(sequence=sequence, body=event(str(sequence)))
    payload = encode_batch(TelemetryBatch(device=device, epoch="e1", records=(record,)))
    return Message(f"edgeward/v1/{topic_of or device}/telemetry", payload)


@pytest.fixture
def counters() -> BridgeCounters:
    return BridgeCounters()


@pytest.fixture
def worker(database: Database, counters: BridgeCounters) -> Ingest:
    """Without a broker: what it would acknowledge is counted as ``not-connected``."""
    link = MqttLink(BrokerSettings(embedded=False), "test", counters.count)
    return Ingest("test", database, link, counters, time.time)


def refused(counters: BridgeCounters) -> dict[str, int]:
    return counters.report(connected=True).refused


def test_what_is_refused_is_counted_by_its_kind_and_the_rest_is_stored(
    database: Database, worker: Ingest, counters: BridgeCounters
) -> None:
    enrol(database, "cam-1")
    enrol(database, "cam-2", revoked=2.0)
    worker.take(
        [
            Message("edgeward/v1/cam-1/telemetry", b"{not a batch"),
            sent("cam-1", 1),
            sent("cam-2", 1),
            sent("cam-3", 1),
            sent("cam-1", 2, topic_of="cam-2"),
            Message("edgeward/v1/cam-1/telemetry", bytes(300_000)),
            Message("edgeward/v1/CAM/telemetry", sent("cam-1", 3).payload),
            sent("cam-1", 4),
        ]
    )
    assert rows(database, "SELECT device, sequence FROM telemetry ORDER BY sequence") == [
        ("cam-1", 1),
        ("cam-1", 4),
    ]
    assert refused(counters) == {
        "malformed": 1,
        "oversized": 1,
        "unknown-topic": 1,
        "wrong-device": 1,
        "revoked-device": 1,
        "unknown-device": 1,
        "not-connected": 1,  # one acknowledgement for both batches of cam-1
    }
    report = worker.report()
    assert (report.batches, report.commits, report.records["new"]) == (2, 1, 2)


def test_a_batch_that_the_database_will_not_have_stops_no_other(
    database: Database, worker: Ingest, counters: BridgeCounters
) -> None:
    enrol(database, "cam-1", "poison", "cam-2")
    refuse = (
        "CREATE TRIGGER no_poison BEFORE INSERT ON telemetry WHEN NEW.device = 'poison' "
        "BEGIN SELECT RAISE(ABORT, 'never'); END"
        if database.sqlite
        else "ALTER TABLE telemetry ADD CONSTRAINT no_poison CHECK (device <> 'poison')"
    )
    database.write(lambda session: session.execute(text(refuse)))
    worker.take([sent("cam-1", 1), sent("poison", 1), sent("cam-2", 1)])
    assert rows(database, "SELECT device FROM telemetry ORDER BY device") == [("cam-1",), ("cam-2",)]
    assert refused(counters) == {"failed": 1, "not-connected": 2}


def test_a_process_tells_of_itself_where_the_api_finds_it(database: Database, worker: Ingest) -> None:
    enrol(database, "cam-1")
    worker.take([sent("cam-1", 1), sent("cam-1", 1)])
    worker._report()
    (view,) = database.read(processes)
    assert (view.name, view.report.records) == (
        "test",
        {"new": 1, "duplicate": 1, "refused": 0, "conflict": 0},
    )
    assert not view.report.bridge.connected


def test_one_process_ingests_into_sqlite_and_any_number_into_postgresql(tmp_path: Path) -> None:
    file, server = Paths(data=tmp_path), Paths(data=tmp_path, url="postgresql+psycopg://host/name")
    with only_one(file), pytest.raises(ConflictError, match="SQLite takes one writer"), only_one(file):
        pass
    with only_one(file), only_one(server), only_one(server):
        pass


def test_a_process_of_its_own_needs_an_external_broker_and_a_certificate_of_its_own(tmp_path: Path) -> None:
    paths = Paths(data=tmp_path)
    with pytest.raises(ConfigError, match="embedded broker"):
        ingest(HubConfig(), paths, "1")
    tls = BrokerTls(
        authority=str(tmp_path / "ca.pem"),
        certificate=str(tmp_path / "hub.pem"),
        key=str(tmp_path / "hub.key"),
    )
    config = msgspec.structs.replace(HubConfig(), broker=BrokerSettings(embedded=False, tls=tls))
    with pytest.raises(ConfigError, match=r"ingest-1\.pem: no such file.*edgeward-hub ingest-files --name 1"):
        ingest(config, paths, "1")
