"""Keep the newest windows and the daily roll-ups: each stored window is taken in exactly once, whenever it comes.

A window is taken in and marked as such (``merged_in``) in one transaction, so it is never counted twice and never forgotten,
however ingest processes commit beside it; and what is taken in stays right after the raw window has been forgotten.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, select, text, tuple_
from sqlalchemy.orm import Session

from agent.drift.errors import DriftError
from agent.protocol.drift import DriftReference, DriftWindow
from cloud_hub.telemetry import adding
from cloud_hub.telemetry.bodies import decode_window
from cloud_hub.telemetry.judging import judged
from cloud_hub.telemetry.models import DriftWindowRow
from cloud_hub.telemetry.rollup_bodies import CountsBody, NewestBody, decode_counts, encode
from cloud_hub.telemetry.rollup_models import DeviceDay, FleetDay, NewestWindow

BATCH = 250
"""Windows that one transaction takes in, in some 0.1 s: others wait for its end."""
NOT_MERGED = text("NOT merged_in")
"""As the partial index says it; SQLite compares the words."""
FEW = 500
"""Keys that one query asks for."""

ReferenceOf = Callable[[str, int], DriftReference | str]
"""The reference of a model's release, or why there is none."""
Key = tuple[str, str, int, str]
"""Device, model, release, slice."""

DAY_FIELDS = tuple(name for name in adding.Day.__struct_fields__ if name != "signals")


class Arrived(Struct, frozen=True, kw_only=True):
    """A stored window that is not taken in yet."""

    device: str
    epoch: str
    sequence: int
    received: float
    window: DriftWindow

    @property
    def key(self) -> Key:
        return (self.device, self.window.model, self.window.release, self.window.slice or "")

    @property
    def day(self) -> int:
        return adding.day_of(self.window.closed, self.received)


class Batch(Struct, frozen=True, kw_only=True):
    """Windows that are to be taken in, with what takes long found out before anybody has to wait for it."""

    arrived: list[Arrived]
    references: dict[tuple[str, int], DriftReference | str]
    bodies: dict[Key, tuple[NewestBody, str]]
    """Of the newest complete window of each key: its body and the hub's level."""


class TakenElsewhereError(Exception):
    """Another process took some of these windows in meanwhile; nothing was changed."""


def look(session: Session, reference_of: ReferenceOf, limit: int = BATCH) -> Batch:
    """The stored windows that came first of those that are not taken in, in a reader's session."""
    arrived = _arrived(session, limit)
    releases = {(each.window.model, each.window.release) for each in arrived}
    references = {release: reference_of(*release) for release in sorted(releases)}
    bodies = {key: _body(run[-1].window, references[key[1], key[2]]) for key, run in _runs(arrived).items()}
    return Batch(arrived=arrived, references=references, bodies=bodies)


def take_in(session: Session, batch: Batch) -> None:
    """Take a batch in, and mark it.

    Raises:
        TakenElsewhereError: roll the transaction back.
    """
    table = DriftWindowRow.__table__
    mark = (
        table.update()  # type: ignore[attr-defined]  # a mapped class has a table
        .where(
            table.c.device == bindparam("a_device"),
            table.c.epoch == bindparam("a_epoch"),
            table.c.sequence == bindparam("a_sequence"),
            NOT_MERGED,
        )
        .values(merged_in=True)
    )
    keys = [
        {"a_device": each.device, "a_epoch": each.epoch, "a_sequence": each.sequence}
        for each in batch.arrived
    ]
    marked = session.connection().execute(mark, keys, execution_options={"preserve_rowcount": True})
    if marked.rowcount != len(keys):
        raise TakenElsewhereError(f"{len(keys) - marked.rowcount} of {len(keys)} windows")
    _add_to_days(session, batch)
    _keep_newest(session, batch)


def _arrived(session: Session, limit: int) -> list[Arrived]:
    row = DriftWindowRow
    query = select(row.device, row.epoch, row.sequence, row.received, row.window)
    found = session.execute(query.where(NOT_MERGED).order_by(row.received).limit(limit))
    return [
        Arrived(device=device, epoch=epoch, sequence=sequence, received=received, window=decode_window(body))
        for device, epoch, sequence, received, body in found
    ]


def _add_to_days(session: Session, batch: Batch) -> None:
    groups: dict[tuple[str, str, int, str, int], list[Arrived]] = defaultdict(list)
    for each in batch.arrived:
        groups[(*each.key, each.day)].append(each)
    rows = _days(session, groups)
    for key, members in groups.items():
        row = rows.get(key)
        day = adding.Day() if row is None else _day(row)
        reference = _known(batch.references[key[1], key[2]])
        for each in members:
            day = adding.add(day, each.window, each.received, reference)
        if row is None:
            row = DeviceDay(
                device=key[0], model=key[1], release=key[2], slice=key[3], day=key[4], level="", psi=0.0
            )
        for name in DAY_FIELDS:
            setattr(row, name, getattr(day, name))
        row.judged = False
        row.body = encode(CountsBody(signals=day.signals))
        session.add(row)
    session.flush()
    _mark_fleet_days(session, {key[1:] for key in groups})


def _days(
    session: Session, keys: Iterable[tuple[str, str, int, str, int]]
) -> dict[tuple[str, str, int, str, int], DeviceDay]:
    row = DeviceDay
    columns = tuple_(row.device, row.model, row.release, row.slice, row.day)
    found: dict[tuple[str, str, int, str, int], DeviceDay] = {}
    wanted = list(keys)
    for start in range(0, len(wanted), FEW):
        for each in session.scalars(select(row).where(columns.in_(wanted[start : start + FEW]))):
            found[each.device, each.model, each.release, each.slice, each.day] = each
    return found


def _day(row: DeviceDay) -> adding.Day:
    fields = {name: getattr(row, name) for name in DAY_FIELDS}
    return adding.Day(**fields, signals=decode_counts(row.body).signals)


def _mark_fleet_days(session: Session, keys: Iterable[tuple[str, int, str, int]]) -> None:
    for model, release, slice_, day in sorted(keys):
        row = session.get(FleetDay, (model, release, slice_, day))
        if row is None:
            session.add(new_fleet_day(model, release, slice_, day))
        else:
            row.dirty, row.changes = True, row.changes + 1
    session.flush()


def new_fleet_day(model: str, release: int, slice_: str, day: int) -> FleetDay:
    """One of which nothing is known but that windows have come."""
    nothing = dict.fromkeys(
        ("devices", "rows", "windows", "incomplete_windows", "incomplete_rows", "unusable", "left_out"), 0
    )
    return FleetDay(
        model=model,
        release=release,
        slice=slice_,
        day=day,
        dirty=True,
        changes=1,
        computed=0.0,
        level="",
        raw_level="",
        psi=0.0,
        accuracy=None,
        body=b"\x80",
        **nothing,
    )


def _runs(arrived: Sequence[Arrived]) -> dict[Key, list[Arrived]]:
    """By key the complete windows of the epoch that came last, in their order."""
    groups: dict[Key, list[Arrived]] = defaultdict(list)
    for each in arrived:
        if not each.window.incomplete:
            groups[each.key].append(each)
    runs = {}
    for key, members in groups.items():
        epoch = max(members, key=lambda each: (each.received, each.sequence)).epoch
        own = [each for each in members if each.epoch == epoch]
        runs[key] = sorted(own, key=lambda each: each.sequence)
    return runs


def _keep_newest(session: Session, batch: Batch) -> None:
    """The newest complete window of each key: the highest sequence of the epoch that came last, whatever the clocks say."""
    runs = _runs(batch.arrived)
    rows = _newest(session, runs)
    for key, run in runs.items():
        row = rows.get(key)
        if row is None:
            row = NewestWindow(
                device=key[0], model=key[1], release=key[2], slice=key[3], level="", claimed=""
            )
            row.level_since = 0.0
        elif not _newer(run[-1], row):
            continue
        _replace(row, run, batch.bodies[key])
        session.add(row)
    session.flush()


def _newest(session: Session, keys: Iterable[Key]) -> dict[Key, NewestWindow]:
    row = NewestWindow
    columns = tuple_(row.device, row.model, row.release, row.slice)
    wanted, found = list(keys), dict[Key, NewestWindow]()
    for start in range(0, len(wanted), FEW):
        for each in session.scalars(select(row).where(columns.in_(wanted[start : start + FEW]))):
            found[each.device, each.model, each.release, each.slice] = each
    return found


def _newer(each: Arrived, row: NewestWindow) -> bool:
    if each.epoch == row.epoch:
        return each.sequence > row.sequence
    return each.received >= row.received


def _replace(row: NewestWindow, run: Sequence[Arrived], found: tuple[NewestBody, str]) -> None:
    newest = run[-1]
    window = newest.window
    body, level = found
    claimed = window.verdict.level
    unbroken = (row.level, row.claimed) == (level, claimed) and all(
        each.window.verdict.level == claimed for each in run
    )
    since = row.level_since if unbroken else _start_of(run, claimed)
    row.epoch, row.sequence = newest.epoch, newest.sequence
    row.opened, row.closed, row.received, row.rows = (
        window.opened,
        window.closed,
        newest.received,
        window.rows,
    )
    row.level, row.claimed, row.level_since = level, claimed, since
    row.alarm = window.alarm.level if window.alarm is not None else ""
    row.body = encode(body)


def _start_of(run: Sequence[Arrived], claimed: str) -> float:
    """When the last windows without a break that have this level began."""
    start = run[-1]
    for each in reversed(run):
        if each.window.verdict.level != claimed:
            break
        start = each
    return adding.when(start.window.closed, start.received)


def _body(window: DriftWindow, reference: DriftReference | str) -> tuple[NewestBody, str]:
    body = NewestBody(
        signals=window.signals, alarm=window.alarm, estimate=window.estimate, estimate_off=window.estimate_off
    )
    if isinstance(reference, str):
        return msgspec.structs.replace(body, problem=reference), ""
    if window.rows > adding.MOST_ROWS:
        problem = f"it claims {window.rows} rows, at most {adding.MOST_ROWS} are believed"
        return msgspec.structs.replace(body, signals={}, problem=problem), ""
    try:
        verdict = judged(reference, window.signals, window.rows).verdict
    except DriftError as error:
        return msgspec.structs.replace(body, signals={}, problem=str(error)), ""
    if window.withheld is not None:  # the device has judged the counts as they were
        verdict = window.verdict
    return msgspec.structs.replace(body, verdict=verdict), verdict.level


def _known(reference: DriftReference | str) -> DriftReference | None:
    return None if isinstance(reference, str) else reference
