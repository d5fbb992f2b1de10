"""Rounds in which each subject drains the same backlog on the same core.

A round: whoever is measured subscribes and is halted (SIGSTOP); the publishers send every batch, which the broker queues; the subject
goes on, and is timed from the first tenth of the batches to the last. So nobody waits for the publishers, and the core of the
subject is its own but for what else the machine does.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
from msgspec import Struct

from hw_bench.errors import MeasurementError
from hw_bench.ingest.postgresql import PostgreSQL
from hw_bench.ingest.servers import HubHome, IngestProcess, Mosquitto, first, put_first, scratch
from hw_bench.ingest.subscribers import Counted
from hw_bench.ingest.workload import Load, Shape, device_names

PUBLISHERS = 2
ROUND_SECONDS = 240.0
POLL_SECONDS = 0.02

INGEST = "edgeward-hub ingest, SQLite"
ONE_POSTGRESQL = "edgeward-hub ingest, PostgreSQL"
TWO_POSTGRESQL = "two of them, PostgreSQL"
PAHO = "bare paho subscriber"
RAW = "raw socket (the broker's own limit)"


class Effort(Struct, frozen=True, kw_only=True):
    rounds: int
    devices: int
    batches: int
    """A device."""


FULL = Effort(rounds=5, devices=1000, batches=10)
QUICK = Effort(rounds=1, devices=300, batches=20)


class Round(Struct, frozen=True, kw_only=True):
    """One subject in one round."""

    batches_per_second: float
    processor_us: float
    """Of the subject, a batch, all its processes together; user and system."""
    acknowledged: int = 0


class ShapeResult(Struct, frozen=True, kw_only=True):
    shape: Shape
    bytes_a_batch: int
    batches: int
    rounds: dict[str, list[Round]]
    """Subject → its rounds; the same place is the same round."""


def measure(
    effort: Effort, shapes: Sequence[Shape], tell: Callable[[str], None], *, postgresql: bool
) -> list[ShapeResult]:
    """Every shape, every round, every subject.

    Raises:
        AbsentError: Mosquitto or PostgreSQL is not installed.
        ServerError, MeasurementError: something ended, or did not come to its end.
    """
    with ExitStack() as running:
        folder = Path(running.enter_context(scratch()))
        broker = running.enter_context(closing(Mosquitto(folder)))
        psutil.Process(broker.pid).cpu_affinity([_feeding()])
        database = running.enter_context(closing(PostgreSQL())) if postgresql else None
        if database is not None:
            put_first(database.pid())
        return [_shape(effort, shape, broker, database, tell) for shape in shapes]


def _shape(
    effort: Effort, shape: Shape, broker: Mosquitto, database: PostgreSQL | None, tell: Callable[[str], None]
) -> ShapeResult:
    devices = device_names(effort.devices)
    total = effort.devices * effort.batches
    with _publishers(shape, devices, effort.batches) as publishers:
        bench = _Bench(broker.port, publishers, shape, devices, total)
        rounds: dict[str, list[Round]] = {}
        for number in range(effort.rounds):
            for name, run in bench.subjects(database).items():
                result = run()
                rounds.setdefault(name, []).append(result)
                tell(
                    f"{shape.name}, round {number + 1}: {name}: {result.batches_per_second:,.0f}/s, "
                    f"{result.processor_us:.0f} us of processor a batch"
                )
        return ShapeResult(shape=shape, bytes_a_batch=publishers.bytes_a_batch, batches=total, rounds=rounds)


class Publishers:
    """Children that hold the encoded batches and send them as often as they are told."""

    def __init__(self, children: Sequence["subprocess.Popen[str]"]) -> None:
        self._children = children
        self.bytes_a_batch = max(int(self._line(child).split()[1]) for child in children)

    def send(self, port: int) -> None:
        """Return when the broker has taken every batch."""
        for child in self._children:
            if child.stdin is None:
                raise MeasurementError("a publisher can't be told anything")
            child.stdin.write(f"{port}\n")
            child.stdin.flush()
        for child in self._children:
            self._line(child)

    @staticmethod
    def _line(child: "subprocess.Popen[str]") -> str:
        return _expect(child)


@contextmanager
def _publishers(shape: Shape, devices: tuple[str, ...], batches: int) -> Iterator[Publishers]:
    children = [
        _child(
            "hw_bench.ingest.publisher", _feeding(), msgspec.json.encode(load).decode(), stdin=subprocess.PIPE
        )
        for load in (
            Load(shape=shape, devices=devices[place::PUBLISHERS], batches=batches)
            for place in range(PUBLISHERS)
        )
    ]
    try:
        yield Publishers(children)
    finally:
        for child in children:
            _end(child)


class _Bench:
    """Rounds of one shape."""

    def __init__(
        self, port: int, publishers: Publishers, shape: Shape, devices: tuple[str, ...], total: int
    ) -> None:
        self._port, self._publishers, self._shape, self._devices, self._total = (
            port,
            publishers,
            shape,
            devices,
            total,
        )

    def subjects(self, database: PostgreSQL | None) -> dict[str, Callable[[], Round]]:
        found: dict[str, Callable[[], Round]] = {
            INGEST: lambda: self.ingest(1, None),
            PAHO: lambda: self.subscriber("paho"),
            RAW: lambda: self.subscriber("raw"),
        }
        if database is not None:
            found[ONE_POSTGRESQL] = lambda: self.ingest(1, database)
            found[TWO_POSTGRESQL] = lambda: self.ingest(2, database)
        return found

    def subscriber(self, kind: str) -> Round:
        child = _child("hw_bench.ingest.subscribers", _measured(), kind, str(self._port), str(self._total))
        try:
            _expect(child, "ready")
            process = psutil.Process(child.pid)
            process.suspend()
            self._publishers.send(self._port)
            process.resume()
            counted = msgspec.json.decode(_expect(child), type=Counted)
        finally:
            _end(child)
        return Round(
            batches_per_second=counted.messages / counted.seconds,
            processor_us=counted.processor_seconds / counted.messages * 1e6,
        )

    def ingest(self, processes: int, database: PostgreSQL | None) -> Round:
        with ExitStack() as running:
            folder = Path(running.enter_context(scratch()))
            url = None if database is None else database.create(f"round_{time.monotonic_ns()}")
            home = HubHome(folder, self._port, self._devices, url)
            workers = [
                running.enter_context(
                    closing(IngestProcess(home, str(number), _measured() if number == 0 else _feeding()))
                )
                for number in range(processes)
            ]
            acks = _child(
                "hw_bench.ingest.subscribers",
                _feeding(),
                "acks",
                str(self._port),
                str(self._total * self._shape.records),
            )
            running.callback(_end, acks)
            _expect(acks, "ready")
            connection = running.enter_context(home.connect())
            for worker in workers:
                self._wait_subscribed(worker, home, connection)
                worker.counted.suspend()
            self._publishers.send(self._port)
            before = sum(worker.processor_seconds() for worker in workers)
            for worker in workers:
                worker.counted.resume()
            rate = self._drain(workers, home, connection)
            spent = sum(worker.processor_seconds() for worker in workers) - before
            acknowledged = msgspec.json.decode(_expect(acks), type=Counted).messages
        return Round(
            batches_per_second=rate, processor_us=spent / self._total * 1e6, acknowledged=acknowledged
        )

    @staticmethod
    def _wait_subscribed(worker: IngestProcess, home: HubHome, connection: Any) -> None:
        """A process that ingests reports of itself as soon as it works; its subscription stands a moment later."""
        give_up = time.monotonic() + ROUND_SECONDS
        while not home.connected(connection, worker.name):
            worker.require_alive()
            if time.monotonic() > give_up:
                raise MeasurementError("edgeward-hub ingest did not connect to the broker")
            time.sleep(POLL_SECONDS)

    def _drain(self, workers: Sequence[IngestProcess], home: HubHome, connection: Any) -> float:
        """Batches a second, between the first tenth and the last."""
        wanted = self._total * self._shape.records
        started: tuple[float, int] | None = None
        give_up = time.monotonic() + ROUND_SECONDS
        while True:
            stored, now = home.stored(connection), time.monotonic()
            if started is None and stored >= wanted // 10:
                started = now, stored
            if stored >= wanted and started is not None:
                return (stored - started[1]) / self._shape.records / (now - started[0])
            for worker in workers:
                worker.require_alive()
            if now > give_up:
                raise MeasurementError(f"{stored} of {wanted} records were stored within {ROUND_SECONDS:g} s")
            time.sleep(POLL_SECONDS)


def _measured() -> int:
    """The core of what is measured."""
    return int(max(psutil.Process().cpu_affinity()))


def _feeding() -> int:
    """The core of everything else; the same one on a machine that has no other."""
    return int(min(psutil.Process().cpu_affinity()))


def _child(
    module: str, core: int, *arguments: str, stdin: int = subprocess.DEVNULL
) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [*first(), sys.executable, "-m", module, *arguments], stdin=stdin, stdout=subprocess.PIPE, text=True
    )
    psutil.Process(child.pid).cpu_affinity([core])
    return child


def _expect(child: "subprocess.Popen[str]", word: str = "") -> str:
    line = "" if child.stdout is None else child.stdout.readline()
    if not line.startswith(word) or not line:
        raise MeasurementError(f"a publisher or a subscriber ended with {child.wait()}")
    return line


def _end(child: "subprocess.Popen[str]") -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    if child.poll() is None:
        child.kill()
    child.wait()
