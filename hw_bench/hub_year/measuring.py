"""A real hub over the database, asked over HTTP: cold (file out of the page cache, hub just started) and warm."""

import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
from msgspec import Struct

from hw_bench.errors import MeasurementError
from hw_bench.hub_year.filling import RELEASES
from hw_bench.hub_year.fleet import MODEL

WARM = 15
"""Requests after the cold one."""
START_SECONDS = 60.0
SICK = "device-00050"
LIMIT_MS = 300.0
"""Of the fleet page."""

PAGES = {
    "fleet page": "/",
    "release page (drift)": f"/releases/{MODEL}/{RELEASES}",
    "devices page": "/devices",
    "one device's page": f"/devices/{SICK}",
    "API: fleet": "/v1/fleet",
    "API: drift, overview": "/v1/drift",
    "API: drift of a release": f"/v1/drift/{MODEL}/{RELEASES}",
    "API: one device's drift": f"/v1/drift/{MODEL}/{RELEASES}/devices/{SICK}",
    "API: fleet's days, 90": f"/v1/drift/{MODEL}/{RELEASES}/days?days=90",
    "API: heat map, 30 days": f"/v1/drift/{MODEL}/{RELEASES}/heat-map?days=30",
    "API: heat map, 90 days": f"/v1/drift/{MODEL}/{RELEASES}/heat-map?days=90",
    "API: one device's timeline, 14 days by window": f"/v1/devices/{SICK}/drift/{MODEL}?days=14",
    "API: one device's timeline, a year by day": f"/v1/devices/{SICK}/drift/{MODEL}?days=365",
    "API: telemetry counts": "/v1/telemetry/counts",
}


class Timing(Struct, frozen=True, kw_only=True):
    name: str
    path: str
    cold_ms: float
    warm_p50_ms: float
    warm_max_ms: float
    cpu_ms: float
    """Of the hub's process for a warm request: what it takes where nothing else runs."""
    kib: float


class RollUp(Struct, frozen=True, kw_only=True):
    seconds: float
    windows_a_second: float
    fleet_days_seconds: float
    """From then on, until every fleet's day was made."""


@contextmanager
def hub(folder: Path, port: int) -> Iterator[tuple[str, psutil.Process]]:
    """A hub's process over ``folder``, with its address."""
    log = (folder / "hub.log").open("ab")
    with (
        log,
        subprocess.Popen(
            [sys.executable, "-m", "cloud_hub", "serve", "--config", str(folder / "hub.toml")],
            stderr=log,
            stdout=log,
        ) as process,
    ):
        address = f"http://127.0.0.1:{port}"
        try:
            _wait(lambda: httpx.get(f"{address}/health").is_success, process)
            yield address, psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _wait(ready: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise MeasurementError("the hub did not start; see hub.log in the bench's folder")


def check_days(folder: Path) -> None:
    """A day that the hub added up is, byte for byte, what this bench wrote for the days before.

    Raises:
        MeasurementError: it is not, so that the figures would say nothing.
    """
    with closing(sqlite3.connect(f"file:{folder / 'hub.db'}?mode=ro", uri=True)) as database:
        kinds = database.execute(
            "SELECT count(DISTINCT body), count(DISTINCT rows), count(DISTINCT windows), count(*) FROM (SELECT * FROM drift_days "
            "WHERE device = 'device-00001' ORDER BY day DESC LIMIT 10)"
        ).fetchone()
    if kinds[:3] != (1, 1, 1):
        raise MeasurementError(f"days that the hub made differ from those that were written: {kinds}")


def roll_up(folder: Path, windows: int, tell: Callable[[str], None]) -> RollUp:
    """Wait until the hub that runs has taken everything in; the rate."""
    began = time.monotonic()
    left = windows
    while left := _left(folder, "drift_windows", "NOT merged_in"):
        tell(f"{left} windows are to be rolled up")
        time.sleep(1)
    taken = time.monotonic() - began
    while days := _left(folder, "drift_fleet_days", "body = X'80'"):
        tell(f"{days} fleet's days are to be made")
        time.sleep(2)
    return RollUp(
        seconds=taken,
        windows_a_second=windows / taken,
        fleet_days_seconds=time.monotonic() - began - taken,
    )


def _left(folder: Path, table: str, condition: str) -> int:
    with closing(sqlite3.connect(f"file:{folder / 'hub.db'}?mode=ro", uri=True)) as database:
        found: int = database.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchone()[0]  # noqa: S608 - our own words
    return found


def measure(folder: Path, port: int, token: str, tell: Callable[[str], None]) -> list[Timing]:
    """Every page: once cold, with a hub of its own, then warm."""
    timings = []
    for name, path in PAGES.items():
        tell(f"{name}: {path}")
        forget(folder / "hub.db")
        with hub(folder, port) as (address, process), _client(address, token) as client:
            timings.append(_timing(client, process, name, path))
    return timings


def forget(path: Path) -> None:
    """Take a file's pages out of the page cache."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _client(address: str, token: str) -> httpx.Client:
    return httpx.Client(
        base_url=address,
        headers={"Authorization": f"Bearer {token}"},
        cookies={"edgeward_token": token},
        timeout=120,
    )


def _worked(process: psutil.Process) -> float:
    """Seconds of a processor."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _timing(client: httpx.Client, process: psutil.Process, name: str, path: str) -> Timing:
    took, size, worked = [], 0, 0.0
    for number in range(WARM + 1):
        if number == 1:
            worked = _worked(process)
        before = time.perf_counter()
        response = client.get(path)
        took.append((time.perf_counter() - before) * 1e3)
        if response.status_code != httpx.codes.OK:
            raise MeasurementError(f"{path}: {response.status_code} {response.text[:300]}")
        size = len(response.content)
    return Timing(
        name=name,
        path=path,
        cold_ms=took[0],
        warm_p50_ms=statistics.median(took[1:]),
        warm_max_ms=max(took[1:]),
        cpu_ms=(_worked(process) - worked) * 1e3 / WARM,
        kib=size / 1024,
    )
