"""Keep the newest windows and the daily roll-ups: each stored window is taken in exactly once, whenever it comes.

A window is taken in and marked as such (``merged_in``) in one transaction, so it is never counted twice and never forgotten,
however ingest processes commit beside it; and what is taken in stays right after the raw window has been forgotten.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct
from sqlalchemy import bindparam, select, tuple_
from sqlalchemy.orm import Session

from agent.drift.errors import DriftError
from agent.drift.levels import SEVERITY
from agent.protocol.drift import DriftReference, DriftWindow, Verdict
from agent.protocol.words import one_line
from cloud_hub.telemetry import adding
from cloud_hub.telemetry.arriving import (
    FEW,
    NOT_MERGED,
    Arrived,
    Key,
    SetAside,
    aside,
    newest_of,
    slices_kept,
    waiting,
)
from cloud_hub.telemetry.judging import judged
from cloud_hub.telemetry.models import DriftWindowRow
from cloud_hub.telemetry.rollup_bodies import CountsBody, NewestBody, decode_counts, encode
from cloud_hub.telemetry.rollup_models import DeviceDay, FleetDay, NewestWindow
from cloud_hub.telemetry.withheld import filled

BATCH = 250
"""Windows that one transaction takes in, in some 0.1 s: others wait for its end."""
FLEET_SECONDS = 60.0
"""A fleet's day is not made anew more often than that."""
ReferenceOf = Callable[[str, int], DriftReference | str | None]
"""The reference of a model's release, or why there is none; None: nobody has ever made such a release."""
DAY_FIELDS = tuple(name for name in adding.Day.__struct_fields__ if name != "signals")


class Batch(Struct, frozen=True, kw_only=True):
    """Windows that are to be taken in, with what takes long found out before anybody has to wait for it."""

    arrived: list[Arrived]
    set_aside: list[SetAside] = []
    references: dict[tuple[str, int], DriftReference | str]
    bodies: dict[Key, tuple[NewestBody, str]]
    """Of the newest complete window of each key: its body and the hub's level."""


class TakenElsewhereError(Exception):
    """Another process took some of these windows in meanwhile; nothing was changed."""


def look(session: Session, reference_of: ReferenceOf, limit: int = BATCH) -> Batch:
    """The stored windows that came first of those that are not taken in, in a reader's session."""
    arrived, set_aside = waiting(session, limit)
    return prepare(session, reference_of, arrived, set_aside)


def prepare(
    session: Session, reference_of: ReferenceOf, arrived: list[Arrived], set_aside: list[SetAside]
) -> Batch:
    """A batch of these windows, judged; those of which the hub keeps nothing are set aside."""
    releases = {each.key[1:3] for each in arrived} | {(each.model, each.release) for each in set_aside}
    found = {release: reference_of(*release) for release in sorted(releases)}
    references = {release: reference for release, reference in found.items() if reference is not None}
    known = [each for each in arrived if each.key[1:3] in references]
    strange = [
        aside(each, "the hub has no such release", counted=False)
        for each in arrived
        if each.key[1:3] not in references
    ]
    unreadable = [
        msgspec.structs.replace(each, counted=(each.model, each.release) in references) for each in set_aside
    ]
    kept, surplus = slices_kept(session, known)
    bodies = {key: _body(run[-1].window, references[key[1], key[2]]) for key, run in _runs(kept).items()}
    return Batch(
        arrived=kept,
        set_aside=[*unreadable, *strange, *(aside(each, why) for each, why in surplus)],
        references=references,
        bodies=bodies,
    )


def only_aside(members: list[SetAside]) -> Batch:
    """A batch of nothing but windows that can't be taken in."""
    return Batch(arrived=[], set_aside=members, references={}, bodies={})


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
    taken: list[Arrived | SetAside] = [*batch.arrived, *batch.set_aside]
    keys = [{"a_device": each.device, "a_epoch": each.epoch, "a_sequence": each.sequence} for each in taken]
    if not keys:
        return
    marked = session.connection().execute(mark, keys, execution_options={"preserve_rowcount": True})
    if marked.rowcount != len(keys):
        raise TakenElsewhereError(f"{len(keys) - marked.rowcount} of {len(keys)} windows")
    _add_to_days(session, batch)
    _count_set_aside(session, [each for each in batch.set_aside if each.counted])
    _keep_newest(session, batch)


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
            row = new_day(key)
        for name in DAY_FIELDS:
            setattr(row, name, getattr(day, name))
        row.judged = False
        row.body = encode(CountsBody(signals=day.signals))
        session.add(row)
    session.flush()
    came: dict[tuple[str, int, str, int], float] = {}
    for key, members in groups.items():
        first = min(each.received for each in members)
        came[key[1:]] = min(came.get(key[1:], first), first)
    _mark_fleet_days(session, came)


def new_day(key: tuple[str, str, int, str, int]) -> DeviceDay:
    """One without any window."""
    row = DeviceDay(device=key[0], model=key[1], release=key[2], slice=key[3], day=key[4], level="", psi=0.0)
    for name in DAY_FIELDS:
        setattr(row, name, getattr(adding.Day(), name))
    row.judged = False
    row.body = encode(CountsBody(signals={}))
    return row


def _count_set_aside(session: Session, members: Sequence[SetAside]) -> None:
    """In the day in which they came. What is stored of that day already is not even looked at: it may be the trouble."""
    rows = _days(session, {each.day_key for each in members})
    came: dict[tuple[str, int, str, int], float] = {}
    for each in members:
        row = rows.get(each.day_key)
        if row is None:
            row = rows[each.day_key] = new_day(each.day_key)
            session.add(row)
        row.unusable, row.problem = row.unusable + 1, each.why
        came.setdefault(each.day_key[1:], each.received)
    session.flush()
    _mark_fleet_days(session, came)


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


def _mark_fleet_days(session: Session, came: Mapping[tuple[str, int, str, int], float]) -> None:
    for (model, release, slice_, day), received in sorted(came.items()):
        row = session.get(FleetDay, (model, release, slice_, day))
        if row is None:
            session.add(new_fleet_day(model, release, slice_, day, received))
        else:
            row.dirty, row.changes = True, row.changes + 1
    session.flush()


def new_fleet_day(model: str, release: int, slice_: str, day: int, received: float) -> FleetDay:
    """One of which nothing is known but that a window has come.

    It stands in line behind those that have waited longer:
    a device that makes many days takes nobody's turn.
    """
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
        computed=received - FLEET_SECONDS,
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
    rows = newest_of(session, runs)
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
        signals=window.signals,
        alarm=window.alarm,
        estimate=adding.sound_estimate(window),
        estimate_off=window.estimate_off,
        altered=window.withheld is not None,
    )
    if isinstance(reference, str):
        return msgspec.structs.replace(body, problem=reference), ""
    problem = adding.counts_problem(window, reference)
    if problem is not None:
        return msgspec.structs.replace(body, signals={}, problem=problem), ""
    try:
        verdict = judged(reference, filled(reference, window.signals), window.rows).verdict
    except DriftError as error:
        return msgspec.structs.replace(body, signals={}, problem=one_line(str(error))), ""
    if window.withheld is not None and not _contradicted(window, verdict):
        verdict = window.verdict  # the device has judged the counts as they were
    return msgspec.structs.replace(body, verdict=verdict), verdict.level


def _contradicted(window: DriftWindow, verdict: Verdict) -> bool:
    """Whether what is told is worse than what the device says of the whole. Of noised counts nobody can say it."""
    suppressed = window.withheld is not None and window.withheld.mechanism == "suppressed"
    return suppressed and SEVERITY[verdict.level] > SEVERITY[window.verdict.level]


def _known(reference: DriftReference | str) -> DriftReference | None:
    return None if isinstance(reference, str) else reference
