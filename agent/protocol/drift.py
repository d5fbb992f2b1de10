"""Drift: the signed reference, and the windows that are compared with it. Both merge exactly (they are counts)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.ids import Count, Name, Sha256, UnixTime, Version
from agent.protocol.manifest import Fraction, Positive

SignalSource = Literal["input", "output"]
Summary = Literal["mean", "std", "gradient", "value", "confidence", "entropy", "argmax"]
"""How one number a row is taken from a tensor.

``mean``, ``std``: over all elements. ``gradient``: mean absolute difference of neighbours along the last two axes
(sharpness of an image). ``value``: the element at ``index``. ``confidence``: largest element. ``entropy``: Shannon
entropy in nats of the element vector taken as probabilities. ``argmax``: index of the largest element.
"""


class SignalReference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One monitored signal and its distribution when the model was made."""

    name: Name
    source: SignalSource
    tensor: str
    summary: Summary
    index: int | None = None
    edges: Annotated[tuple[float, ...], Meta(min_length=2)]
    """Ascending; ``k + 1`` edges make ``k`` bins ``[e_i, e_i+1)``, the last one closed."""
    counts: tuple[Count, ...]
    """``k + 2`` counts: under the first edge, the bins, over the last edge."""
    missing: Count
    """Rows whose signal was not finite."""


class DriftPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a window is judged, and how sure the judgement must be."""

    window_rows: Annotated[int, Meta(ge=1)] = 500
    """A window closes at this many rows."""
    window_seconds: Positive = 3_600.0
    """… or at this age, if it has any."""
    minimum_rows: Annotated[int, Meta(ge=1)] = 300
    """Below it the verdict is ``insufficient data`` (PSI false-alarms 39 % of the time at 100 rows and 10 bins)."""
    alpha: Fraction = 0.01
    """Level of the corrected tests."""
    psi_warning: Positive = 0.1
    psi_drift: Positive = 0.25
    maximum_outside: Fraction = 0.05
    """Share of rows outside the reference's range, or missing, beyond the reference's own share, that is drift."""


class DriftReference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signed with the release."""

    schema: Annotated[int, Meta(ge=1, le=1)]
    dataset_sha256: Sha256
    rows: Count
    signals: Annotated[tuple[SignalReference, ...], Meta(min_length=1)]
    policy: DriftPolicy


VerdictLevel = Literal["ok", "warning", "drift", "insufficient data"]


class SignalCounts(Struct, frozen=True, kw_only=True):
    """One signal's window; the same layout as its reference."""

    counts: tuple[Count, ...]
    missing: Count


class SignalVerdict(Struct, frozen=True, kw_only=True):
    """One signal's statistics in one window."""

    level: VerdictLevel
    rows: Count
    """Rows that had a value (were not missing): the sample size of PSI and of the test."""
    psi: float
    ks: float
    p_value: float
    """Of ``test``, Benjamini-Hochberg corrected over the judged signals; 1 where the signal was not tested."""
    test: Literal["ks", "chi-squared"] = "ks"
    """Classes (``argmax``) have no order, so KS means nothing for them: chi-squared is used and ``ks`` is 0."""
    missing_rate: float
    outside_rate: float
    """Share under the first or over the last edge."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What a window says; carries its sample size and its correction."""

    level: VerdictLevel
    rows: Count
    correction: Literal["benjamini-hochberg"]
    alpha: float
    signals: dict[str, SignalVerdict]
    moved_most: tuple[str, ...]
    """Up to three signals, the one that moved most first (by PSI)."""
    reason: str
    """One plain sentence."""


class DriftWindow(Struct, frozen=True, kw_only=True):
    """One closed window of one model on one device: counts, so that it merges, and the verdict on it."""

    model: Name
    release: Version
    deployment: str
    artifact: Sha256
    """Digest of the model file that served."""
    opened: UnixTime
    closed: UnixTime
    rows: Count
    signals: dict[str, SignalCounts]
    verdict: Verdict
