"""Persistence and hysteresis: from verdicts of single windows to what is to be believed. Pure.

Two latches, one for ``warning`` and one for ``drift``::

    verdict of the window      counts for a latch    and then
    at its level or above      one more above        ``persistence`` in a row raise it
    under its level            one more under        ``recovery`` in a row clear it
    insufficient data          nothing               no evidence, in either direction

The level is that of the highest latch that is raised. Where none is, it is ``ok``, or ``insufficient data`` before
the first verdict and after ``recovery`` windows in a row without one: silence is no health. It clears no alarm either.
"""

from msgspec import Struct
from msgspec.structs import replace

from agent.drift.levels import SEVERITY
from agent.protocol.drift import Alarm, DriftPolicy, VerdictLevel

LATCHED: tuple[VerdictLevel, ...] = ("warning", "drift")
"""Levels that are raised and cleared; the severer one comes last."""


class Latch(Struct, frozen=True, kw_only=True):
    """Of one level."""

    raised: bool = False
    above: int = 0
    """Windows in a row that were at the level or above it."""
    under: int = 0
    """Windows in a row that were under it."""


class AlarmState(Struct, frozen=True, kw_only=True):
    """Everything that is remembered between two windows."""

    level: VerdictLevel = "insufficient data"
    since: float = 0.0
    """Unix seconds."""
    windows: int = 0
    latches: tuple[Latch, Latch] = (Latch(), Latch())
    """In the order of :data:`LATCHED`."""
    silent: int = 0
    """Windows in a row without a verdict."""


def step(state: AlarmState, verdict: VerdictLevel, now: float, policy: DriftPolicy) -> AlarmState:
    """The state after one more window, which ended at ``now`` (Unix seconds)."""
    if verdict == "insufficient data":
        silent = state.silent + 1
        forgotten = silent >= policy.recovery and state.level == "ok"
        return _at("insufficient data" if forgotten else state.level, replace(state, silent=silent), now)
    warning, drift = (
        _latch(latch, SEVERITY[verdict] >= SEVERITY[level], policy)
        for latch, level in zip(state.latches, LATCHED, strict=True)
    )
    level: VerdictLevel = "drift" if drift.raised else "warning" if warning.raised else "ok"
    return _at(level, replace(state, latches=(warning, drift), silent=0), now)


def told(state: AlarmState, changed: tuple[str, ...] = ()) -> Alarm:
    """What the window says of it; ``changed``: see :class:`agent.protocol.drift.Alarm`."""
    return Alarm(level=state.level, since=state.since, windows=state.windows, changed=changed)


def _latch(latch: Latch, is_above: bool, policy: DriftPolicy) -> Latch:  # noqa: FBT001 - the one fact it is about
    above = latch.above + 1 if is_above else 0
    under = 0 if is_above else latch.under + 1
    raised = under < policy.recovery if latch.raised else above >= policy.persistence
    return Latch(raised=raised, above=above, under=under)


def _at(level: VerdictLevel, state: AlarmState, now: float) -> AlarmState:
    if level == state.level and state.windows:
        return replace(state, windows=state.windows + 1)
    return replace(state, level=level, since=now, windows=1)
