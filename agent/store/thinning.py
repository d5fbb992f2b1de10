"""Records that wait for the hub become fewer by being merged (:mod:`agent.core.thinning`), within the caller's transaction.

A record that was ever offered to the hub is left alone: the hub may have it, and what it counts would be counted twice.
"""

import math
import sqlite3
from collections.abc import Callable, Hashable

import msgspec
from msgspec import Struct

from agent.core.sending import Spans
from agent.core.thinning import merge_health, merge_windows, window_key
from agent.protocol.codec import encode_msgpack
from agent.protocol.errors import MessageTooLargeError
from agent.protocol.limits import MAX_RECORD_BYTES
from agent.protocol.telemetry import Body, Health, Record, Window
from agent.store.counters import count
from agent.store.importance import ALARMING, RANKS

AT_ONCE = 2_048
"""Records of one kind that one pass looks at, the oldest: a transaction stays short."""

decode_body: Callable[[bytes], Body] = msgspec.json.Decoder(Body).decode
encode_body: Callable[[Body], bytes] = msgspec.json.Encoder(order="deterministic").encode


class _Waiting(Struct, frozen=True):
    sequence: int
    size: int
    body: Body


def thin(connection: sqlite3.Connection, spans: Spans) -> int:
    """Merge what waits, is not urgent and lies within one span; returns how many records went into others."""
    return thin_rank(connection, RANKS["health"], spans) + thin_rank(connection, RANKS["window"], spans)


def thin_rank(connection: sqlite3.Connection, rank: int, spans: Spans) -> int:
    """:func:`thin` for the records of one rank; 0 where it is not of a kind that can be merged."""
    if rank not in {RANKS["health"], RANKS["window"], ALARMING}:
        return 0
    groups: dict[Hashable, list[_Waiting]] = {}
    for one in _waiting(connection, rank):
        groups.setdefault(_group(one.body, spans), []).append(one)
    return sum(_merge(connection, group) for group in groups.values() if len(group) > 1)


def _waiting(connection: sqlite3.Connection, rank: int) -> list[_Waiting]:
    rows = connection.execute(
        "SELECT sequence, size, body FROM outbox WHERE priority = ? AND offered IS NULL ORDER BY sequence LIMIT ?",
        (rank, AT_ONCE),
    )
    found: list[_Waiting] = []
    for sequence, size, body in rows:
        try:
            found.append(_Waiting(sequence, size, decode_body(body)))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # the next batch sets it aside
    return found


def _group(body: Body, spans: Spans) -> Hashable:
    """Records of one group become one."""
    if isinstance(body, Window):
        return "window", math.floor(body.window.opened / spans.windows), window_key(body.window)
    if isinstance(body, Health):
        return "health", math.floor(body.time / spans.health)
    return id(body)


def _merge(connection: sqlite3.Connection, group: list[_Waiting]) -> int:
    """Put a group into its newest record."""
    body = _sum([one.body for one in group])
    newest = group[-1].sequence
    try:
        encode_msgpack(Record(sequence=newest, body=body), limit=MAX_RECORD_BYTES)
    except MessageTooLargeError:
        return 0
    data = encode_body(body)
    connection.execute("UPDATE outbox SET size = ?, body = ? WHERE sequence = ?", (len(data), data, newest))
    connection.executemany("DELETE FROM outbox WHERE sequence = ?", [(one.sequence,) for one in group[:-1]])
    gone = len(group) - 1
    count(connection, f"merged:{body.__struct_config__.tag}", gone)
    count(connection, "pending_bytes", len(data) - sum(one.size for one in group))
    return gone


def _sum(bodies: list[Body]) -> Body:
    samples = [body for body in bodies if isinstance(body, Health)]
    if samples:
        return merge_health(samples)
    return Window(window=merge_windows([body.window for body in bodies if isinstance(body, Window)]))
