"""Rates of bytes: a limit, a minimum, and what is told to people. Time is an argument, in monotonic seconds."""

from collections import deque


class TokenBucket:
    """Allows ``rate`` bytes a second, and at most one second's worth at once.

    What is taken has arrived already, so a bucket may go into debt; whoever took waits until it is paid. However large the
    pieces, over any span no more than ``rate x span + burst + one piece`` passes.
    """

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._tokens = rate
        self._at = now

    def take(self, count: int, now: float) -> float:
        """Take ``count`` bytes; returns the seconds to wait before the next."""
        self._tokens = min(self.rate, self._tokens + (now - self._at) * self.rate) - count
        self._at = now
        return max(0.0, -self._tokens / self.rate)


class MinimumRate:
    """Tells a transfer that is stuck: less than ``rate`` bytes a second over ``window`` seconds of waiting for its source.

    Time in which the source was not waited for (the disk was slow, the rate limit held) must be left out by the caller:
    ``now`` is the time that the source had.
    """

    def __init__(self, rate: float, window: float, now: float) -> None:
        self.rate = rate
        self.window = window
        self._began = now
        self._count = 0

    def arrived(self, count: int) -> None:
        """So many bytes came."""
        self._count += count

    def judge(self, now: float) -> int | None:
        """Look at it: the bytes that came in the window that has just ended, where they are too few; else None.

        Each window is judged by itself.
        """
        span = now - self._began
        if span < self.window:
            return None
        count, self._began, self._count = self._count, now, 0
        return count if count < self.rate * span else None


class RateMeter:
    """Bytes a second over the newest seconds, so that one late block does not make it jump."""

    def __init__(self, span: float = 10.0) -> None:
        self._span = span
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, count: int, now: float) -> None:
        """``count`` bytes have come since the beginning."""
        if self._samples and count < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, count))
        while len(self._samples) > 2 and self._samples[1][0] <= now - self._span:  # noqa: PLR2004 - one to begin with, one to end
            self._samples.popleft()

    def rate(self) -> float | None:
        """None until there is a second to tell it from."""
        if not self._samples:
            return None
        (began, before), (ended, count) = self._samples[0], self._samples[-1]
        return None if ended - began < 1.0 else (count - before) / (ended - began)
