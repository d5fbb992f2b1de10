"""How long to wait before the next try: exponential, with jitter, so that a fleet does not return all at once."""

import random

from msgspec import Struct


class Backoff(Struct, frozen=True, kw_only=True):
    """Bounds of a wait, in seconds."""

    minimum: float
    maximum: float

    def delay(self, attempt: int, randomness: random.Random) -> float:
        """Seconds before try ``attempt + 1`` (0: after the first failure).

        Uniform between half of ``minimum · 2^attempt``, capped at ``maximum``, and the whole ("equal jitter",
        Brooker 2015, "Exponential Backoff And Jitter").
        """
        whole = min(self.maximum, self.minimum * 2.0 ** min(attempt, 62))
        return randomness.uniform(whole / 2, whole)
