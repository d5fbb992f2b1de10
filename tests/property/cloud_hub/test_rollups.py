"""However windows come - late, twice, in any order, in any batches, from any clock - each is added up exactly once."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from agent.drift.merge import merge_counts
from agent.protocol.drift import DriftWindow
from cloud_hub.database import Database
from cloud_hub.telemetry import fleet_days, rollups
from cloud_hub.telemetry.adding import DAY, day_of
from cloud_hub.telemetry.rollup_bodies import decode_counts
from cloud_hub.telemetry.rollup_models import DeviceDay, FleetDay, NewestWindow
from tests.support.drift_fleets import reference
from tests.support.drift_windows import store, window, without_counts

SIGNED = reference(2)
NOW = 20_000 * DAY + 7_200.0
OFFSETS = (-400.0, -90_000.0, -9 * DAY - 5.0, 500.0, -19_000.0 * DAY, 40.0 * DAY)
"""Closed so long before or after it was received; the last two are clocks that can't be right."""
POOL: list[DriftWindow] = [
    window(SIGNED, NOW + offset, rows=rows, shift=shift, seed=seed, slice_=slice_, incomplete=incomplete)
    for seed, (offset, rows, shift, slice_, incomplete) in enumerate(
        (offset, 300 + 100 * (place % 3), 4 * (place % 2), ("site=a" if place == 1 else None), place == 4)
        for place, offset in enumerate(OFFSETS * 2)
    )
]
POOL.append(without_counts(window(SIGNED, NOW - 60, rows=77)))

arrivals = st.lists(
    st.tuples(
        st.sampled_from(["one", "two", "three"]),
        st.integers(1, 12),
        st.sampled_from(range(len(POOL))),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=30,
)
"""Device, sequence, window, and how many passes of the keeper follow (0: none)."""


@pytest.fixture(scope="module")
def template() -> bytes:
    """An empty database's file."""
    with TemporaryDirectory() as folder:
        database = Database(Path(folder) / "hub.db")
        database.migrate()
        database.close()
        return (Path(folder) / "hub.db").read_bytes()


@settings(max_examples=15, deadline=None)
@given(arrivals=arrivals, size=st.integers(1, 5))
def test_each_window_counts_once(
    template: bytes, arrivals: list[tuple[str, int, int, int]], size: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "hub.db"
        path.write_bytes(template)
        database = Database(path)
        try:
            first: dict[tuple[str, int], DriftWindow] = {}
            for device, sequence, place, passes in arrivals:
                sent = POOL[place]
                database.write(lambda session: store(session, device, {sequence: sent}, NOW))  # noqa: B023 - awaited
                first.setdefault((device, sequence), sent)
                for _ in range(passes):
                    _take_in(database, size)
            while _take_in(database, size):
                pass
            _compare(database, first)
        finally:
            database.close()


def _take_in(database: Database, size: int) -> int:
    batch = database.read(lambda session: rollups.look(session, lambda _model, _release: SIGNED, size))
    if batch.arrived:
        database.write(lambda session: rollups.take_in(session, batch))
    return len(batch.arrived)


def _compare(database: Database, first: dict[tuple[str, int], DriftWindow]) -> None:
    expected: dict[tuple[str, str, int], list[DriftWindow]] = {}
    newest: dict[tuple[str, str], int] = {}
    for (device, sequence), sent in first.items():
        key = (device, sent.slice or "")
        expected.setdefault((*key, day_of(sent.closed, NOW)), []).append(sent)
        if not sent.incomplete:
            newest[key] = max(newest.get(key, 0), sequence)
    days = database.read(lambda session: list(session.scalars(select(DeviceDay))))
    assert {(row.device, row.slice, row.day) for row in days} == set(expected)
    for row in days:
        sent_windows = expected[row.device, row.slice, row.day]
        counted = [each for each in sent_windows if each.signals]
        assert row.rows == sum(each.rows for each in counted)
        assert row.windows == len(counted)
        assert row.incomplete_windows == sum(each.incomplete for each in sent_windows)
        assert row.incomplete_rows == sum(each.rows for each in sent_windows if each.incomplete)
        assert row.ok + row.warning + row.drift + row.insufficient == len(sent_windows)
        found = decode_counts(row.body).signals
        for name in counted[0].signals if counted else ():
            assert found[name] == merge_counts(each.signals[name] for each in counted)
    kept = database.read(lambda session: list(session.scalars(select(NewestWindow))))
    assert {(each.device, each.slice): each.sequence for each in kept} == newest
    for each in kept:
        assert each.claimed == first[each.device, each.sequence].verdict.level == each.level
    _compare_fleet_days(database, days)


def _compare_fleet_days(database: Database, days: list[DeviceDay]) -> None:
    keys = database.read(lambda session: fleet_days.stale(session, NOW, at_least=0, limit=1000))
    assert {(key.slice, key.day) for key in keys} == {(row.slice, row.day) for row in days}
    for key in keys:
        made = database.read(lambda session: fleet_days.make(session, key, lambda _m, _r: SIGNED))  # noqa: B023
        assert database.write(lambda session: fleet_days.keep(session, made, NOW))  # noqa: B023
    assert not database.read(lambda session: fleet_days.stale(session, NOW, at_least=0, limit=1000))
    for row in database.read(lambda session: list(session.scalars(select(FleetDay)))):
        mine = [day for day in days if (day.slice, day.day) == (row.slice, row.day)]
        assert (row.devices, row.rows) == (len(mine), sum(day.rows for day in mine))
