"""How often a device lets others make it work. Pure: time is an argument, in monotonic seconds."""


class Pace:
    """``burst`` times at once, then once every ``seconds``; what was not used comes back."""

    def __init__(self, burst: int, seconds: float, now: float) -> None:
        self._burst = burst
        self._seconds = seconds
        self._left = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Once more: the seconds to wait before it."""
        self._left = min(self._burst, self._left + (now - self._at) / self._seconds) - 1.0
        self._at = now
        return max(0.0, -self._left * self._seconds)
