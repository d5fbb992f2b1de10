"""The device's own judge, kept ready for the references that are in use."""

from collections.abc import Mapping
from functools import lru_cache

from agent.drift.verdict import Judge, Judgement
from agent.protocol.drift import DriftReference, SignalCounts

READY = 64
"""References whose side of the statistics is kept."""


@lru_cache(maxsize=READY)
def _judge(reference: DriftReference) -> Judge:
    return Judge(reference)


def judged(reference: DriftReference, counts: Mapping[str, SignalCounts], rows: int) -> Judgement:
    """As :func:`agent.drift.judge`.

    Raises:
        LayoutError: ``counts`` do not have the reference's layout, or do not add up to ``rows``.
    """
    return _judge(reference).judgement(counts, rows)
