"""Two ingest processes on PostgreSQL behind a real broker with its access rules: they share the load, and what one leaves undone
the other does."""

import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.protocol.batch_codec import encode_batch
from agent.protocol.codec import decode_json
from agent.protocol.telemetry import Record, TelemetryAck, TelemetryBatch
from agent.protocol.topics import Channel, parse_topic, topic
from agent.transport.settings import TlsFiles
from cloud_hub import setup
from cloud_hub.config import load_config
from cloud_hub.database import Database
from cloud_hub.devices.authority import DeviceAuthority
from cloud_hub.ingest.report import IngestView, processes
from cloud_hub.telemetry.service import counts
from hw_bench.ingest.postgresql import PostgreSQL
from tests.integration.cloud_hub.ingest.conftest import enrol, event, rows
from tests.support.mosquitto import MOSQUITTO, Broker, Peer

DEVICES = [f"cam-{number}" for number in range(12)]
BATCHES = 25
RECORDS = 3
PATIENCE = 60.0

pytestmark = pytest.mark.skipif(
    MOSQUITTO is None, reason="mosquitto (Debian package mosquitto) is not installed"
)


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll what another process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain until {what}"
        time.sleep(0.05)


class World:
    """A hub's folder, a broker, and processes that ingest."""

    def __init__(self, folder: Path, url: str) -> None:
        self.home = folder / "hub"
        setup.create_hub(
            self.home, host="127.0.0.1", port=8500, broker_port=8510, open_dashboard=False, database=url
        )
        _config, paths = load_config(self.home / "hub.toml")
        authority, now, pki = DeviceAuthority(paths.authority), time.time(), self.home / "tls"
        authority.issue_broker_files(pki, ["127.0.0.1"], 2, now)
        for name in ("1", "2"):
            authority.issue_ingest_files(pki, name, 2, now)
        self.broker = Broker(folder, pki)
        self._configure()
        self.database = Database(url)
        enrol(self.database, *DEVICES)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def _configure(self) -> None:
        path = self.home / "hub.toml"
        text = path.read_text().replace("embedded = true ", "embedded = false")
        text = text.replace("port = 8510", f"port = {self.broker.port}").replace(
            "# serve = true", "serve = false"
        )
        tls = "\n".join(
            f'{name} = "tls/{file}"'
            for name, file in (("authority", "ca.pem"), ("certificate", "hub.pem"), ("key", "hub.key"))
        )
        path.write_text(text.replace("[trust]", f"[broker.tls]\n{tls}\n\n[trust]", 1))

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "cloud_hub", "ingest", "--name", name]
        with (self.home / f"ingest-{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*command, "--config", str(self.home / "hub.toml")], stdout=log, stderr=log
            )

    def seen(self) -> dict[str, IngestView]:
        return {view.name.removeprefix("hub-ingest-"): view for view in self.database.read(processes)}

    def connected(self) -> bool:
        for name, process in self.running.items():
            assert process.poll() is None, (self.home / f"ingest-{name}.log").read_text()
        seen = self.seen()
        return all(name in seen and seen[name].report.bridge.connected for name in self.running)

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait(15)

    def close(self) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            assert process.wait(30) == 0
        self.broker.stop()
        self.database.close()


@pytest.fixture
def world(tmp_path: Path, postgresql_url: str) -> Iterator[World]:
    made = World(tmp_path, postgresql_url)
    with closing(made):
        made.broker.start()
        for name in ("1", "2"):
            made.start(name)
        until(made.connected, "both processes have subscribed")
        yield made


class Sender:
    """All devices behind one connection: each sends what is not acknowledged again, in any order, and now and then twice."""

    def __init__(self, world: World) -> None:
        pki = world.broker.pki
        files = TlsFiles(certificate=pki / "hub.pem", key=pki / "hub.key", authority=pki / "ca.pem")
        self._peer = Peer(world.broker.port, files, "hub")
        assert not self._peer.open().is_failure
        self._peer.subscribe("edgeward/v1/+/telemetry/ack")
        self._waiting: dict[tuple[str, int], Any] = {}
        self.acknowledged = 0
        self._random = random.Random(7)

    def add(self, first: int, batches: int) -> None:
        for device in DEVICES:
            for number in range(first, first + batches):
                start = number * RECORDS + 1
                records = tuple(Record(sequence=n, body=event(str(n))) for n in range(start, start + RECORDS))
                self._waiting[device, number] = TelemetryBatch(device=device, epoch="e1", records=records)

    def run(self, meanwhile: Callable[[int], None] = lambda _done: None) -> None:
        """Return when everything is acknowledged; ``meanwhile`` is told how many batches are, each time."""
        deadline = time.monotonic() + PATIENCE
        while self._waiting:
            assert time.monotonic() < deadline, f"{len(self._waiting)} batches are not acknowledged"
            batches = list(self._waiting.values())
            self._random.shuffle(batches)
            for batch in batches[:40]:
                for _ in range(self._random.choice((1, 1, 2))):
                    self._peer.send(topic(batch.device, Channel.TELEMETRY), encode_batch(batch))
            self._hear(time.monotonic() + 0.5)
            meanwhile(self.acknowledged)

    def _hear(self, until_then: float) -> None:
        while time.monotonic() < until_then and self._waiting:
            try:
                message = self._peer.messages.get(timeout=0.1)
            except queue.Empty:
                return  # what waits is sent again
            device = parse_topic(message.topic)[0]
            for sequence in decode_json(bytes(message.payload), TelemetryAck).sequences:
                if self._waiting.pop((device, (sequence - 1) // RECORDS), None) is not None:
                    self.acknowledged += 1

    def close(self) -> None:
        self._peer.close()


def test_load_is_shared_and_nothing_is_lost_or_doubled_though_one_is_killed_and_the_database_restarts(
    world: World, postgresql: PostgreSQL
) -> None:
    with closing(Sender(world)) as sender:
        sender.add(0, BATCHES)
        sender.run()
        until(
            lambda: all(view.report.batches for view in world.seen().values()),
            "both have told what they took",
        )
        assert set(world.seen()) == {"1", "2"}

        sender.add(BATCHES, BATCHES)
        before = sender.acknowledged
        done: set[str] = set()

        def trouble(acknowledged: int) -> None:
            if acknowledged - before > 50 and "kill" not in done:
                done.add("kill")
                world.kill("1")
            elif acknowledged - before > 150 and "restart" not in done:
                done.add("restart")
                restarting = threading.Thread(target=postgresql.restart)
                restarting.start()
                restarting.join()

        sender.run(trouble)
        assert done == {"kill", "restart"}
    expected = 2 * BATCHES * RECORDS
    held = rows(world.database, "SELECT device, COUNT(*), MAX(sequence) FROM telemetry GROUP BY device")
    assert sorted(held) == sorted((device, expected, expected) for device in DEVICES)
    tallies = world.database.read(counts)
    assert {device: epochs[0].records for device, epochs in tallies.items()} == dict.fromkeys(
        DEVICES, expected
    )
