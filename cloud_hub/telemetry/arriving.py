"""Stored windows on their way into the roll-ups, and those that do not get in."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct
from sqlalchemy import select, text, tuple_
from sqlalchemy.orm import Session

from agent.protocol.drift import MAX_SLICE_VALUE, DriftWindow
from agent.protocol.words import one_line
from cloud_hub.telemetry import adding
from cloud_hub.telemetry.bodies import decode_window
from cloud_hub.telemetry.models import DriftWindowRow
from cloud_hub.telemetry.rollup_models import DeviceDay, NewestWindow

NOT_MERGED = text("NOT merged_in")
"""As the partial index says it; SQLite compares the words."""
MOST_SLICES = 17
"""Of a device and release: as many as a policy may tell apart, and "other"."""
LONGEST_SLICE = 64 + 1 + MAX_SLICE_VALUE
"""Characters of ``parameter=value``."""
FEW = 500
"""Keys that one query asks for."""

Key = tuple[str, str, int, str]
"""Device, model, release, slice."""


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


class SetAside(Struct, frozen=True, kw_only=True):
    """A stored window that can't be taken in; marked and counted, so that no other waits behind it."""

    device: str
    epoch: str
    sequence: int
    received: float
    model: str
    release: int
    why: str
    counted: bool = True
    """In the device's day; not where its release is unknown: what a device makes up, makes no rows here."""

    @property
    def day_key(self) -> tuple[str, str, int, str, int]:
        """Of the whole, also for a slice: the hub may not keep that one."""
        return (self.device, self.model, self.release, "", int(self.received // adding.DAY))


def waiting(session: Session, limit: int) -> tuple[list[Arrived], list[SetAside]]:
    """The stored windows that came first of those that are not taken in, and those of them that can't be read."""
    row = DriftWindowRow
    query = select(row.device, row.epoch, row.sequence, row.received, row.model, row.release, row.window)
    found = session.execute(query.where(NOT_MERGED).order_by(row.received).limit(limit))
    arrived: list[Arrived] = []
    unreadable: list[SetAside] = []
    for device, epoch, sequence, received, model, release, body in found:
        try:
            window = decode_window(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            why = one_line(f"a stored window can't be read: {error}")
            unreadable.append(
                SetAside(
                    device=device,
                    epoch=epoch,
                    sequence=sequence,
                    received=received,
                    model=model,
                    release=release,
                    why=why,
                )
            )
        else:
            arrived.append(
                Arrived(device=device, epoch=epoch, sequence=sequence, received=received, window=window)
            )
    return arrived, unreadable


def aside(each: Arrived, why: str, *, counted: bool = True) -> SetAside:
    """``each`` as one that can't be taken in; counted with the whole."""
    return SetAside(
        device=each.device,
        epoch=each.epoch,
        sequence=each.sequence,
        received=each.received,
        model=each.window.model,
        release=each.window.release,
        why=one_line(why),
        counted=counted,
    )


def slices_kept(
    session: Session, arrived: Sequence[Arrived]
) -> tuple[list[Arrived], list[tuple[Arrived, str]]]:
    """Windows of the whole and of slices that the hub keeps of their device and release, and the others with the reason."""
    sliced = {each.key for each in arrived if each.key[3]}
    fresh = sorted(sliced - newest_of(session, sliced).keys())
    there: dict[tuple[str, str, int], set[str]] = {}
    refused: dict[Key, str] = {}
    for key in fresh:
        release = key[:3]
        if release not in there:
            there[release] = _slices_of(session, release)
        if len(key[3]) > LONGEST_SLICE:
            refused[key] = f"a slice has a name of {len(key[3])} characters, at most {LONGEST_SLICE} are kept"
        elif key[3] not in there[release] and len(there[release]) >= MOST_SLICES:
            refused[key] = f"it tells over {MOST_SLICES} slices of a release apart"
        else:
            there[release].add(key[3])
    kept = [each for each in arrived if each.key not in refused]
    return kept, [(each, refused[each.key]) for each in arrived if each.key in refused]


def _slices_of(session: Session, release: tuple[str, str, int]) -> set[str]:
    row = DeviceDay
    query = select(row.slice).where(
        row.device == release[0], row.model == release[1], row.release == release[2], row.slice != ""
    )
    return set(session.scalars(query.distinct().limit(MOST_SLICES)))


def newest_of(session: Session, keys: Iterable[Key]) -> dict[Key, NewestWindow]:
    row = NewestWindow
    columns = tuple_(row.device, row.model, row.release, row.slice)
    wanted, found = list(keys), dict[Key, NewestWindow]()
    for start in range(0, len(wanted), FEW):
        for each in session.scalars(select(row).where(columns.in_(wanted[start : start + FEW]))):
            found[each.device, each.model, each.release, each.slice] = each
    return found
