"""Write a year straight into a hub's database, as ingest would have left it: rows in the order in which they came."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.protocol.state import OutboxReport, ReportedState, ServingReport
from hw_bench.hub_year.fleet import (
    DIGEST,
    DRIFT_DAYS,
    HOURS,
    MODEL,
    ROWS,
    Fleet,
    make_reference,
    release_files,
)

DAY = 86_400
HUBS_DAYS = 5
"""The last days, which the hub itself rolls up; those before are written as it would have left them."""
RELEASES = 4
"""One after the other, over the whole time."""
EPOCH = "e1"
CACHE_KIB = 1_500_000

_WINDOW = "INSERT INTO drift_windows VALUES (?, ?, ?, ?, ?, '', ?, ?, ?, ?, ?, ?, NULL, 0, ?, ?)"
_DEVICE_DAY = (
    "INSERT INTO drift_days (device, model, release, slice, day, windows, rows, incomplete_windows, incomplete_rows, "
    "unusable, ok, warning, drift, insufficient, alarms, late, opened, closed, level, psi, estimate_rows, judged, body) "
    "VALUES (?, ?, ?, '', ?, ?, ?, 0, 0, 0, ?, 0, ?, 0, 0, 0, ?, ?, ?, 0, 0, 1, ?)"
)
_FLEET_DAY = (
    "INSERT INTO drift_fleet_days (model, release, slice, day, dirty, changes, computed, level, raw_level, devices, rows, "
    "windows, incomplete_windows, incomplete_rows, unusable, left_out, psi, body) "
    "VALUES (?, ?, '', ?, 1, 1, 0, '', '', 0, 0, 0, 0, 0, 0, 0, 0, X'80')"
)
_COLUMNS = (
    "device", "epoch", "sequence", "model", "release", "slice", "artifact", "opened", "closed", "received", "rows",
    "level", "alarm", "incomplete", "merged_in", "window",
)  # fmt: skip
_DEVICE = (
    "INSERT INTO devices (id, hardware_class, enrolled, certificate_sha256, certificate_serial, certificate_expires, "
    "online, boot, presence_at, reported, reported_boot, reported_sequence, reported_at) "
    "VALUES (?, 'x86-64', ?, '', '1', ?, 1, 'b1', ?, ?, 'b1', 1, ?)"
)
_RELEASE = (
    "INSERT INTO releases (model, release, state, author, created, submitted, published) "
    "VALUES (?, ?, 'published', 'bench', ?, ?, ?)"
)


class Year(Struct, frozen=True, kw_only=True):
    devices: int
    days: int
    end: float
    """Unix seconds at the end of a day (UTC); the last window was closed just before."""

    @property
    def windows(self) -> int:
        return self.devices * self.days * HOURS


def fill(folder: Path, year: Year, tell: Callable[[str], None]) -> None:
    """Fill the database of a hub that does not run; ``folder`` is the one that ``edgeward-hub init`` made."""
    reference = make_reference()
    tell("drawing the fleet's windows …")
    fleet = Fleet(year.devices, reference)
    with closing(sqlite3.connect(folder / "hub.db", isolation_level=None)) as database:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}"):
            database.execute(f"PRAGMA {pragma}")
        found = tuple(row[1] for row in database.execute("PRAGMA table_info(drift_windows)"))
        if found != _COLUMNS:
            raise AssertionError(f"drift_windows has other columns than this bench writes: {found}")
        database.execute("BEGIN")
        for release in range(1, RELEASES + 1):
            _add_release(database, folder / "artifacts", release, release_files(release, reference), year)
        database.executemany(_DEVICE, _devices(fleet, year))
        indices = _without_indices(database)
        for day in range(year.days):
            database.executemany(_WINDOW, _windows_of(fleet, year, day))
            if day % 30 == 29:  # noqa: PLR2004 - a line a month
                tell(f"{day + 1} of {year.days} days written")
        database.execute(
            "INSERT INTO telemetry SELECT device, epoch, sequence, 'window', received, NULL FROM drift_windows ORDER BY device, epoch, sequence"
        )
        database.execute(
            "INSERT INTO telemetry_tally SELECT device, epoch, kind, count(*) FROM telemetry GROUP BY 1, 2, 3"
        )
        tell("writing roll-ups …")
        _add_roll_ups(database, fleet, year)
        for statement in indices:
            database.execute(statement)
        database.execute("COMMIT")
        database.execute("PRAGMA journal_mode=WAL")


def _add_roll_ups(database: sqlite3.Connection, fleet: Fleet, year: Year) -> None:
    """Every day is the same sum: a device's windows repeat."""
    encode = msgspec.msgpack.encode
    first = int(year.end // DAY) - year.days
    for drifts in (False, True):
        sums = [fleet.day(number, drifts=drifts) for number in range(year.devices)]
        bodies = [encode({"signals": drawn.signals}) for drawn in sums]
        for day in range(year.days - HUBS_DAYS):
            if drifts != (day >= year.days - DRIFT_DAYS):
                continue
            release, number = release_on(day, year), first + day
            database.executemany(
                _DEVICE_DAY,
                (
                    (
                        name, MODEL, release, number, HOURS, HOURS * ROWS, HOURS * (drawn.verdict.level != "drift"),
                        HOURS * (drawn.verdict.level == "drift"), number * DAY, (number + 1) * DAY - 1.0,
                        drawn.verdict.level, body,
                    )
                    for name, drawn, body in zip(fleet.names, sums, bodies, strict=True)
                ),
            )  # fmt: skip
            database.execute(_FLEET_DAY, (MODEL, release, number))


def release_on(day: int, year: Year) -> int:
    """The release that the fleet served on the day, counted from 0."""
    return 1 + day * RELEASES // year.days


def _without_indices(database: sqlite3.Connection) -> list[str]:
    """Drop what can be made faster afterwards; how to make it again."""
    rows = database.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'drift_windows' AND sql IS NOT NULL"
    ).fetchall()
    for name, _ in rows:
        database.execute(f"DROP INDEX {name}")
    return [sql for _, sql in rows]


def _add_release(
    database: sqlite3.Connection, artifacts: Path, release: int, files: dict[str, bytes], year: Year
) -> None:
    at = year.end - year.days * DAY
    database.execute(_RELEASE, (MODEL, release, at, at, at))
    for filename, data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        (artifacts / digest).write_bytes(data)
        database.execute(
            "INSERT INTO release_files VALUES (?, ?, ?, ?, ?)", (MODEL, release, filename, digest, len(data))
        )


def _windows_of(fleet: Fleet, year: Year, day: int) -> Iterator[tuple[object, ...]]:
    release, merged = release_on(day, year), day < year.days - HUBS_DAYS
    drifts = day >= year.days - DRIFT_DAYS
    encode = msgspec.msgpack.Encoder().encode
    for hour in range(HOURS):
        closed = year.end - ((year.days - day) * HOURS - hour - 1) * 3600.0 - 1.0
        sequence = day * HOURS + hour + 1
        for number, name in enumerate(fleet.names):
            own = closed - number * 3600.0 / year.devices  # not all devices close theirs at the same second
            window = fleet.window(number, release, own, hour, drifts=drifts)
            yield (
                name, EPOCH, sequence, MODEL, release, DIGEST, window.opened, own, own + 1, window.rows,
                window.verdict.level, merged, encode(window),
            )  # fmt: skip


def _devices(fleet: Fleet, year: Year) -> Iterator[tuple[object, ...]]:
    for name in fleet.names:
        yield (
            name, year.end - year.days * DAY, year.end + 300 * DAY, year.end, _report(name, year), year.end,
        )  # fmt: skip


def _report(name: str, year: Year) -> bytes:
    state = ReportedState(
        device=name,
        agent_version="0",
        hardware_class="x86-64",
        boot="b1",
        sequence=1,
        time=year.end,
        held=False,
        inference_address="http://127.0.0.1:8600",
        serving=(
            ServingReport(
                model=MODEL,
                release=RELEASES,
                variant="onnx-int8",
                artifact=DIGEST,
                ready=True,
                requests=1_000_000,
                failures=0,
                p50_ms=1.0,
                p95_ms=2.0,
                p99_ms=3.0,
                memory_mib=60.0,
                drift="ok",
                drift_rows=500,
            ),
        ),
        deployments=(),
        outbox=OutboxReport(
            epoch=EPOCH,
            recorded=year.days * HOURS,
            acknowledged=year.days * HOURS,
            pending=0,
            dropped={},
            quarantined=0,
        ),
        errors={},
        refusal=None,
    )
    return msgspec.json.encode(state)
