"""How many rows one user may have inferred, so that a model can't be copied by asking it often enough.

A token bucket a user, told by one number (the generic cell rate algorithm): the time at which the bucket will be full
again. The numbers stand in memory that outlives the runner (the supervisor owns it), so neither
a swap nor a crash fills anybody's bucket. The clock must be the same in every process: ``CLOCK_MONOTONIC``.
"""

import math
import struct
from collections.abc import Iterator
from http import HTTPStatus
from mmap import mmap

from agent.protocol.access import QueryBudget
from agent.runner.errors import OverBudgetError, RequestError

OVER_TCP = 2**32
"""Stands for all who come over TCP together, where nobody knows who they are; above every uid."""

_SLOT = struct.Struct("=Qd")
"""Who (uid + 1; 0: nobody yet), and when the bucket is full again, seconds of the clock."""

_HOUR = 3600.0


class QueryLedger:
    """Charges rows to users. Bounded: who is new when every slot is taken goes on with the debt of the least indebted.

    So N slots never give more than N budgets, however many users ask. Another process may charge in the same memory
    (the runner before, while it drains); two charges in the same microsecond may then count as one.
    """

    def __init__(
        self, budget: QueryBudget, memory: bytearray | mmap, *, exempt: frozenset[int] = frozenset()
    ) -> None:
        """``memory``: zeros at first; its length bounds the users. ``exempt``: uids that are not counted."""
        self._budget = budget
        self._exempt = exempt
        self._memory = memoryview(memory)
        self._slots = len(self._memory) // _SLOT.size
        self._seconds_a_row = _HOUR / budget.rows_per_hour
        self._bucket_seconds = budget.burst * self._seconds_a_row
        self._known: dict[int, int] = {}

    def charge(self, uid: int | None, rows: int, now: float) -> None:
        """Take ``rows`` from the bucket of ``uid`` (None: of those who come over TCP).

        Args:
            uid: who asks.
            rows: of the batch.
            now: seconds of ``CLOCK_MONOTONIC``.

        Raises:
            OverBudgetError: not so many are left; nothing is taken.
            RequestError: never will so many be there at once, or nobody may ask over TCP.
        """
        if uid in self._exempt:
            return
        if uid is None and self._budget.tcp == "refused":
            raise RequestError(
                "query budget: this model is not served over TCP, where nobody knows who asks; use its own Unix socket",
                HTTPStatus.FORBIDDEN,
            )
        if rows > self._budget.burst:
            raise RequestError(
                f"query budget: a batch of {rows} rows, at most {self._budget.burst} at once are allowed",
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        key = (OVER_TCP if uid is None else uid) + 1
        slot = self._find(key)
        debt = self._debt(slot, now) + rows * self._seconds_a_row
        late = debt - self._bucket_seconds
        # A hair of tolerance: sums of floats must not refuse the last row of a full bucket.
        if late > self._seconds_a_row * 1e-6:
            raise OverBudgetError(
                f"query budget: {self._budget.rows_per_hour} rows an hour, at most {self._budget.burst} at once;"
                f" too few are left for {rows} now",
                retry_after=late,
            )
        _SLOT.pack_into(self._memory, slot * _SLOT.size, key, now + debt)
        self._known[key] = slot

    def _debt(self, slot: int, now: float) -> float:
        """Seconds until the bucket is full; at most a whole bucket, whatever stands in the memory."""
        _, full_again = _SLOT.unpack_from(self._memory, slot * _SLOT.size)
        debt = full_again - now
        return min(max(0.0, debt), self._bucket_seconds) if math.isfinite(debt) else self._bucket_seconds

    def _find(self, key: int) -> int:
        slot = self._known.get(key)
        if slot is not None and self._key(slot) == key:
            return slot
        self._known.pop(key, None)
        least, best = math.inf, 0
        for each, (who, full_again) in enumerate(self._entries()):
            if who == key:
                return each
            if full_again < least:
                least, best = full_again, each
        return best

    def _key(self, slot: int) -> int:
        return int(_SLOT.unpack_from(self._memory, slot * _SLOT.size)[0])

    def _entries(self) -> Iterator[tuple[int, float]]:
        return _SLOT.iter_unpack(self._memory[: self._slots * _SLOT.size])
