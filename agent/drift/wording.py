"""A verdict in one plain sentence."""

from collections.abc import Sequence

from msgspec import Struct

from agent.protocol.drift import DriftReference, MovedSignal, VerdictLevel

_SHARES = {
    "missing": "is missing",
    "not-finite": "is NaN or infinite",
    "outside": "is outside the reference's range",
}


SMALLEST_P = 1e-9


class Told(Struct, frozen=True, kw_only=True):
    """What the sentence needs beside the signals that moved."""

    level: VerdictLevel
    rows: int
    judged: int
    needed: int
    """Rows that the signal with the fewest bins needs."""
    usual: float
    """The reference's own share of what moved most."""
    constant: bool
    """Whether the signal that moved most repeats itself."""


def reason(told: Told, reference: DriftReference, moved: Sequence[MovedSignal]) -> str:
    """Why the verdict is what it is."""
    if not moved:
        return _insufficient(told)
    policy = reference.policy
    first = moved[0]
    basis = f"{told.rows} rows, {told.judged} of {len(reference.signals)} signals judged"
    if first.statistic != "psi":
        return (
            f"Drift: {first.signal} {_SHARES[first.statistic]} in {first.value:.1%} of rows "
            f"(reference {told.usual:.1%}); {basis}."
        )
    stuck = ", and repeats itself as a stuck sensor does" if told.constant else ""
    most = f"{first.signal} (PSI {first.value:.2f}, corrected p {_p(first.p_value)}) moved most"
    if told.level == "ok":
        why = "which may be chance" if first.value >= policy.psi_warning else "within limits"
        return f"No drift: {most}, {why}{stuck}; {basis}."
    limit = policy.psi_drift if told.level == "drift" else policy.psi_warning
    return f"{told.level.capitalize()}: {most}, the limit is PSI {limit:g}{stuck}; {basis}."


def _p(value: float) -> str:
    """A smaller one says no more: nothing else that is assumed holds to so many places."""
    return f"{value:.2g}" if value >= SMALLEST_P else "under 1e-9"


def _insufficient(told: Told) -> str:
    if told.rows >= told.needed:
        return (
            f"Insufficient data: {told.rows} rows, but too few of them, or of the reference's, have the signals' "
            f"values; at least {told.needed} are needed on both sides."
        )
    return f"Insufficient data: {told.rows} rows, at least {told.needed} are needed for a verdict."
