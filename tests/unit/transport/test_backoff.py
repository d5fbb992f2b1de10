import random

from agent.transport.backoff import Backoff


def test_grows_to_its_bound_with_jitter() -> None:
    backoff = Backoff(minimum=0.5, maximum=60.0)
    source = random.Random(1)
    for attempt in range(200):
        whole = min(60.0, 0.5 * 2**attempt)
        delays = {backoff.delay(attempt, source) for _ in range(20)}
        assert len(delays) > 1
        assert whole / 2 <= min(delays) <= max(delays) <= whole
