"""Store many batches in one transaction: each record once, whatever comes twice, late or in another order.

The key of a record is (device, epoch, sequence). The first one that is committed under a key stays. A second one of the same
content is acknowledged and leaves nothing behind; one of another content is refused and counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.batch_codec import ReceivedBatch
from agent.protocol.telemetry import Body, TelemetryAck, Window
from cloud_hub.devices.models import Device
from cloud_hub.ingest import rows
from cloud_hub.ingest.rows import Key
from cloud_hub.telemetry.bodies import decode_body, decode_window, encode_body
from cloud_hub.telemetry.models import TelemetryMark

CONFLICT = "another record with this key is stored already"
UNSTORABLE = "a text of it holds the character U+0000"


@dataclass(slots=True)
class Stored:
    """What became of the batches. It holds once the transaction is committed."""

    acks: dict[tuple[str, str], tuple[set[int], dict[str, str]]] = field(default_factory=dict)
    """(device, epoch) → sequences that are safe, and those that can never be stored, with the reason."""
    new: int = 0
    duplicates: int = 0
    """Records that were here already, with the same content or forgotten since."""
    refused: int = 0
    conflicts: list[Key] = field(default_factory=list)

    def messages(self) -> list[tuple[str, TelemetryAck]]:
        """Device → what it may be told: one message an epoch, however many batches it sent."""
        return [
            (device, TelemetryAck(epoch=epoch, sequences=tuple(sorted(safe)), refused=refused))
            for (device, epoch), (safe, refused) in self.acks.items()
        ]

    def refuse(self, key: Key, why: str) -> None:
        safe, refused = self.acks[key[:2]]
        safe.discard(key[2])
        refused[str(key[2])] = why
        if why is CONFLICT:
            self.conflicts.append(key)
        else:
            self.refused += 1


def strangers(session: Session, devices: Iterable[str]) -> dict[str, str]:
    """Those of ``devices`` that the hub takes nothing from → kind of the refusal."""
    wanted = set(devices)
    query = select(Device.id, Device.revoked).where(Device.id.in_(wanted))
    revoked = {device: since for device, since in session.execute(query)}  # noqa: C416 - rows are no pairs to dict()
    unknown = dict.fromkeys(wanted - revoked.keys(), "unknown-device")
    return unknown | {device: "revoked-device" for device, since in revoked.items() if since is not None}


def store_batches(session: Session, batches: Sequence[ReceivedBatch], now: float) -> Stored:
    """Insert what is not here yet, in ``session``'s transaction.

    Args:
        session: of the database; nothing is committed here.
        batches: of devices that are known; records of one key may come several times, also in one batch.
        now: Unix seconds.
    """
    stored = Stored()
    first = _gather(batches, _marks(session, batches), stored)
    # Sorted: two processes that wait for each other's rows do so in one order.
    known = rows.insert_new(session, sorted(_record_row(key, body, now) for key, body in first.items()))
    there = _there(session, known)
    for key in known:
        if key in there and there[key] != first[key]:
            stored.refuse(key, CONFLICT)
        else:
            stored.duplicates += 1
    fresh = {key: body for key, body in first.items() if key not in known} if known else first
    stored.new = len(fresh)
    rows.insert_windows(
        session, [_window_row(key, body, now) for key, body in fresh.items() if isinstance(body, Window)]
    )
    rows.add_to_tally(session, Counter((key[0], key[1], _kind(body)) for key, body in fresh.items()))
    return stored


def _gather(
    batches: Sequence[ReceivedBatch], marks: Mapping[tuple[str, str], int], stored: Stored
) -> dict[Key, Body]:
    """What is to be stored; what needs no look into the database is settled in ``stored``."""
    first: dict[Key, Body] = {}
    for batch in batches:
        device, epoch = batch.device, batch.epoch
        safe, refused = stored.acks.setdefault((device, epoch), (set(), {}))
        refused.update(batch.refused)
        stored.refused += len(batch.refused) + batch.nameless
        mark = marks.get((device, epoch), 0)
        for record in batch.records:
            key = (device, epoch, record.sequence)
            safe.add(record.sequence)
            if record.sequence <= mark:
                stored.duplicates += 1
            elif _unstorable(record.body):
                stored.refuse(key, UNSTORABLE)
            elif (other := first.setdefault(key, record.body)) is not record.body:
                if other == record.body:
                    stored.duplicates += 1
                else:
                    stored.conflicts.append(key)
    return first


def _marks(session: Session, batches: Sequence[ReceivedBatch]) -> dict[tuple[str, str], int]:
    devices = {batch.device for batch in batches}
    query = select(TelemetryMark.device, TelemetryMark.epoch, TelemetryMark.low_water)
    found = session.execute(query.where(TelemetryMark.device.in_(devices)))
    return {(device, epoch): low_water for device, epoch, low_water in found}


def _there(session: Session, keys: set[Key]) -> dict[Key, Body]:
    """What is stored under ``keys``; without those whose content was forgotten."""
    bodies = {key: decode_body(body) for key, body in rows.bodies(session, keys)}
    return bodies | {key: Window(window=decode_window(window)) for key, window in rows.windows(session, keys)}


def _kind(body: Body) -> str:
    return str(body.__struct_config__.tag)


def _unstorable(body: Body) -> bool:
    """PostgreSQL holds no U+0000 in a text; what else becomes a column is a name or a number."""
    slice_ = body.window.slice if isinstance(body, Window) else getattr(body, "slice", None)
    return slice_ is not None and "\0" in slice_


def _record_row(key: Key, body: Body, now: float) -> rows.RecordRow:
    return (*key, _kind(body), now, None if isinstance(body, Window) else encode_body(body))


def _window_row(key: Key, body: Window, now: float) -> tuple[object, ...]:
    window = body.window
    columns = {
        "device": key[0],
        "epoch": key[1],
        "sequence": key[2],
        "model": window.model,
        "release": window.release,
        "slice": window.slice or "",
        "artifact": window.artifact,
        "opened": window.opened,
        "closed": window.closed,
        "received": now,
        "rows": window.rows,
        "level": window.verdict.level,
        "alarm": None if window.alarm is None else window.alarm.level,
        "incomplete": window.incomplete,
        "merged_in": False,
        "window": encode_body(window),
    }
    return tuple(columns[name] for name in rows.WINDOW_COLUMNS)
