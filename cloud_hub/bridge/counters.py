"""What the bridge took and refused since the hub started, by kind."""

import threading
from collections import Counter, deque

from msgspec import Struct

from agent.protocol.ids import UnixTime

REMEMBERED = 20
TEXT_CHARACTERS = 300


class Refusal(Struct, frozen=True, kw_only=True):
    """One message that was not taken, and why."""

    time: UnixTime
    topic: str
    kind: str
    text: str


class BridgeReport(Struct, frozen=True, kw_only=True):
    connected: bool
    taken: dict[str, int]
    """Channel → messages."""
    refused: dict[str, int]
    """Kind (``malformed``, ``oversized``, ``unknown-topic``, ``unknown-device``, ``wrong-device``, …) → messages."""
    newest: tuple[Refusal, ...]
    """The newest refusals, newest first."""


class BridgeCounters:
    """Counted from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._newest: deque[Refusal] = deque(maxlen=REMEMBERED)

    def take(self, channel: str, messages: int = 1) -> None:
        with self._lock:
            self._taken[channel] += messages

    def count(self, kind: str, messages: int = 1) -> None:
        with self._lock:
            self._refused[kind] += messages

    def refuse(self, kind: str, topic: str, text: str, now: float) -> None:
        refusal = Refusal(time=now, topic=topic[:TEXT_CHARACTERS], kind=kind, text=text[:TEXT_CHARACTERS])
        with self._lock:
            self._refused[kind] += 1
            self._newest.appendleft(refusal)

    def report(self, *, connected: bool) -> BridgeReport:
        with self._lock:
            return BridgeReport(
                connected=connected,
                taken=dict(self._taken),
                refused=dict(self._refused),
                newest=tuple(self._newest),
            )
