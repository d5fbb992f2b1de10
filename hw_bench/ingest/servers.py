"""What is measured, started: Mosquitto, the hub's database, and processes that ingest."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psutil

from hw_bench.errors import AbsentError, ServerError
from hw_bench.serving.servers import START_SECONDS, ServerProcess, free_ports

_LIMITS = Path(__file__).parents[2] / "packaging" / "mosquitto" / "mosquitto.conf"
_KEPT = ("max_queued", "max_inflight", "max_packet", "set_tcp_nodelay", "log_")
NICENESS = -10
_AHEAD = f"[ ! -e /proc/self/autogroup ] || echo {NICENESS} > /proc/self/autogroup"
_DEVICE = (
    "INSERT INTO devices (id, hardware_class, enrolled, certificate_sha256, certificate_serial, certificate_expires, online) "
    "VALUES ({0}, 'x86-64', 1.0, '', '', 4e9, {1})"
)


class Mosquitto:
    """The broker with the limits of ``packaging/mosquitto``, on loopback, without TLS.

    Raises:
        AbsentError: it is not installed.
        ServerError: it does not start.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            raise AbsentError("mosquitto is not installed; Debian's package: mosquitto")
        (self.port,) = free_ports(1)
        kept = [line for line in _LIMITS.read_text(encoding="utf-8").splitlines() if line.startswith(_KEPT)]
        path = folder / "mosquitto.conf"
        path.write_text("\n".join([f"listener {self.port} 127.0.0.1", "allow_anonymous true", *kept, ""]))
        self._process = ServerProcess("mosquitto", [*first(), program, "-c", path])
        give_up = time.monotonic() + START_SECONDS
        while not _listens(self.port):
            if self._process.process.poll() is not None or time.monotonic() > give_up:
                raise ServerError(f"mosquitto does not start: {self._process.last_words()}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._process.stop()


class HubHome:
    """A new hub's folder and database with devices in it; ``url`` is PostgreSQL's, None: SQLite."""

    def __init__(
        self, folder: Path, broker_port: int, devices: tuple[str, ...], url: str | None = None
    ) -> None:
        self.folder, self._url = folder / "hub", url
        _command("init", str(self.folder), *(() if url is None else ("--database", url)))
        config = self.folder / "hub.toml"
        text = config.read_text(encoding="utf-8")
        text = text.replace("embedded = true ", "embedded = false").replace(
            "port = 8510", f"port = {broker_port}"
        )
        text = text.replace("# serve = true", "serve = false").replace("[log]", '[log]\nlevel = "warning"', 1)
        config.write_text(text, encoding="utf-8")
        self._enrol(devices)

    def _enrol(self, devices: tuple[str, ...]) -> None:
        with closing(self._connect()) as connection:
            mark, no = ("?", "0") if self._url is None else ("%s", "false")
            connection.cursor().executemany(_DEVICE.format(mark, no), [(name,) for name in devices])
            connection.commit()

    def _connect(self) -> Any:
        if self._url is None:
            return sqlite3.connect(self.folder / "hub.db")
        import psycopg  # noqa: PLC0415 - an extra, and only here

        return psycopg.connect(self._url.replace("+psycopg", ""))

    def stored(self, connection: Any) -> int:
        """Records that are committed."""
        cursor = connection.cursor()
        cursor.execute("SELECT COALESCE(SUM(records), 0) FROM telemetry_tally")
        count = int(cursor.fetchone()[0])
        connection.rollback()
        return count

    def connected(self, connection: Any, name: str) -> bool:
        """Whether that process has told that its subscription stands."""
        cursor = connection.cursor()
        cursor.execute(f"SELECT report FROM ingest_processes WHERE name = 'hub-ingest-{name}'")  # noqa: S608 - the bench's own
        row = cursor.fetchone()
        connection.rollback()
        return row is not None and bool(msgspec.json.decode(bytes(row[0]))["bridge"]["connected"])

    def connect(self) -> Any:
        return closing(self._connect())

    def bytes_stored(self) -> int:
        """Size of SQLite's files."""
        return sum(path.stat().st_size for path in self.folder.glob("hub.db*"))


class IngestProcess:
    """``edgeward-hub ingest`` on one core."""

    def __init__(self, home: HubHome, name: str, core: int) -> None:
        self.name = name
        command = [*first(), sys.executable, "-m", "cloud_hub", "ingest", "--name", name]
        self._process = ServerProcess(f"ingest {name}", [*command, "--config", home.folder / "hub.toml"])
        self.counted = psutil.Process(self._process.pid)
        self.counted.cpu_affinity([core])

    def processor_seconds(self) -> float:
        times = self.counted.cpu_times()
        return float(times.user + times.system)

    def require_alive(self) -> None:
        """Raises ServerError where it has ended."""
        if self._process.process.poll() is not None:
            raise ServerError(f"edgeward-hub ingest ended: {self._process.last_words()}")

    def close(self) -> None:
        if self.counted.is_running():
            self.counted.resume()
        self._process.stop()


def first() -> tuple[str, ...]:
    """What makes a command go before all else that the machine does, where we may (root)."""
    if os.geteuid() != 0:
        return ()
    # Linux shares its time out among sessions first (autogroup), and by niceness only within each.
    return ("setsid", "sh", "-c", f'{_AHEAD}; exec nice -n {NICENESS} "$@"', "sh")


def put_first(pid: int) -> None:
    """The same for a process that runs, and for the children that it will have."""
    if os.geteuid() == 0:
        psutil.Process(pid).nice(NICENESS)
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():
            group.write_text(str(NICENESS))


def _command(*arguments: str) -> None:
    done = subprocess.run(
        [*first(), sys.executable, "-m", "cloud_hub", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ServerError(f"edgeward-hub {arguments[0]}: {done.stderr.strip()}")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """A folder on the disk that temporary files are on: what is committed there is written to it."""
    return tempfile.TemporaryDirectory(prefix="edgeward-bench-ingest-", dir=os.environ.get("TMPDIR"))
