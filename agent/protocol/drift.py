"""Drift: the signed reference, and the windows that are compared with it. Both merge exactly (they are counts)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.ids import Count, Name, Sha256, UnixTime, Version
from agent.protocol.manifest import Fraction, Positive

SignalSource = Literal["input", "output"]
Summary = Literal[
    "value",
    "category",
    "mean",
    "std",
    "gradient",
    "brightness",
    "contrast",
    "sharpness",
    "saturation",
    "noise",
    "rms",
    "spectral-centroid",
    "spectral-flatness",
    "clipping",
    "projection",
    "confidence",
    "margin",
    "entropy",
    "argmax",
]
"""How one number a row is taken from a tensor; the formulas stand in :mod:`agent.drift.summaries`.

Tables: ``value``, ``category``: the element at ``index``, the latter an integer code without an order. Any tensor:
``mean``, ``std``, ``gradient`` (of neighbours along the last two axes). Images (with ``layout``): ``brightness``,
``contrast``, ``sharpness``, ``saturation``, ``noise``. Sound: ``rms``, ``spectral-centroid``, ``spectral-flatness``,
``clipping``. Embeddings: ``projection`` on the component ``index`` of the reference's ``embeddings``. Outputs:
``confidence``, ``margin``, ``entropy``, ``argmax`` (the rates of the classes).
"""

Layout = Literal["HW", "HWC", "CHW"]
"""Axes of one image, after the batch axis; other axes of size 1 do not count."""


class SignalReference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One monitored signal and its distribution when the model was made."""

    name: Name
    source: SignalSource
    tensor: str
    summary: Summary
    index: int | None = None
    """Element of the flattened row (``value``, ``category``), or number of the component (``projection``)."""
    layout: Layout | None = None
    """For images only."""
    full_scale: Positive | None = None
    """For ``clipping`` only: the magnitude from which a sample is clipped."""
    missing_value: float | None = None
    """A value that stands for "not known"; for ``value`` and ``category`` only."""
    categories: tuple[int, ...] | None = None
    """For ``category`` only: the known codes, ascending; all others count as "over"."""
    edges: Annotated[tuple[float, ...], Meta(min_length=2)]
    """Ascending; ``k + 1`` edges make ``k`` bins ``[e_i, e_i+1)``, the last one closed.

    Classes and categories have one bin each: class or place ``j`` of ``categories`` lies in ``[j - 0.5, j + 0.5)``.
    """
    counts: tuple[Count, ...]
    """``k + 2`` counts: under the first edge, the bins, over the last edge."""
    missing: Count
    """Rows that had ``missing_value``."""
    not_finite: Count = 0
    """Rows whose signal was NaN or infinite."""


class Components(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Directions on which one embedding is projected. Numbers are little-endian float32, in JSON as base64."""

    source: SignalSource
    tensor: str
    mean: bytes
    """Shape (elements of a row,): subtracted first."""
    vectors: bytes
    """Shape (components, elements of a row), row after row."""


class Calibration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the model was right at each confidence, on held-out data."""

    signal: Name
    """The confidence signal whose slots (under, the bins, over) the counts below follow."""
    rows: tuple[Count, ...]
    correct: tuple[Count, ...]
    """Of these rows."""
    expected_error: float
    """Expected calibration error of the confidences, on the same data."""
    problem: str | None = None
    """Why accuracy may not be estimated from it; None where the check was passed."""


RESERVED_PARAMETERS = frozenset(
    {"timeout", "priority", "binary_data_output", "sequence_id", "sequence_start", "sequence_end"}
)
"""Of a request, that mean something of their own in the Open Inference Protocol: no slices are made by them."""

OTHER_SLICE = "other"
"""What every value is called that is not told apart."""

MAX_SLICE_VALUE = 64
"""Characters of a value that can be told apart."""


class SlicePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows are also counted apart by one request parameter."""

    parameter: Name
    """Of the request, whose values part the rows."""
    values: tuple[str, ...] = ()
    """Declared values; empty: the first ones that are seen."""
    maximum: Annotated[int, Meta(ge=1, le=16)] = 8
    """Slices at most, without "other", which takes the rest."""


class SequentialPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Page-Hinkley on each signal's distance from the reference, in standard deviations of chance."""

    tolerance: Positive = 1.0
    """Change of the mean that is of no interest."""
    threshold: Positive = 8.0
    """Cumulated excess that is a change: higher is later and surer."""
    minimum_windows: Annotated[int, Meta(ge=2)] = 5
    """Windows before it may report."""


class CountPrivacy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Small counts do not leave the device as they are (:mod:`agent.core.privacy`)."""

    mechanism: Literal["suppressed", "noised"]
    """Small counts are hidden, or all counts get noise; docs/privacy.md says how."""
    minimum: Annotated[int, Meta(ge=3, le=1000)] = 5
    """Of ``suppressed``: the smallest count that is told. Under 3, two hidden counts could only be 1 and 1."""
    epsilon: Annotated[float, Meta(ge=0.01, le=100)] = 1.0
    """Of ``noised``: how much one row of a window may tell, over all its signals; less is more private."""


class DriftPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a window is judged, and how sure the judgement must be."""

    every: Annotated[int, Meta(ge=1, le=100_000)] = 1
    """Only each so-manieth row is counted. Frames of a camera that show one scene are one observation: count them once."""
    window_rows: Annotated[int, Meta(ge=1)] = 500
    """A window closes at this many rows that were counted."""
    window_seconds: Positive = 3_600.0
    """… or at this age, if it has any."""
    minimum_rows: Annotated[int, Meta(ge=1)] = 300
    """Below it the verdict is ``insufficient data`` (PSI false-alarms 39 % of the time at 100 rows and 10 bins)."""
    alpha: Fraction = 0.01
    """Level of the corrected tests."""
    psi_warning: Positive = 0.1
    """A signal whose PSI reaches it, and whose distribution differs significantly, is a warning."""
    psi_drift: Positive = 0.25
    """… and here it is drift."""
    maximum_outside: Fraction = 0.05
    """Share of rows outside the reference's range, missing or not finite, beyond the reference's own share, that is
    drift."""
    persistence: Annotated[int, Meta(ge=1)] = 2
    """Windows in a row, at a level or above it, that raise the alarm to it."""
    recovery: Annotated[int, Meta(ge=1)] = 3
    """Windows in a row under a level that take the alarm down from it."""
    slices: SlicePolicy | None = None
    """None: rows are counted together only."""
    sequential: SequentialPolicy = SequentialPolicy()
    """How an abrupt change between windows is found."""
    privacy: CountPrivacy | None = None
    """The least that every device does; its owner may ask for more. None: counts leave as they are."""


class DriftReference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signed with the release."""

    schema: Annotated[int, Meta(ge=1, le=1)]
    dataset_sha256: Sha256
    rows: Count
    signals: Annotated[tuple[SignalReference, ...], Meta(min_length=1)]
    policy: DriftPolicy
    embeddings: tuple[Components, ...] = ()
    """At most one a tensor."""
    calibration: Calibration | None = None
    """None: accuracy is not estimated."""


VerdictLevel = Literal["ok", "warning", "drift", "insufficient data"]


class SignalCounts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One signal's window; the same layout as its reference. All merge by adding."""

    counts: tuple[Count, ...]
    """Under the first edge, the bins, over the last edge; with ``missing`` and ``not_finite`` they make all rows."""
    missing: Count = 0
    """Rows that had the signal's ``missing_value``."""
    not_finite: Count = 0
    """Rows whose signal was NaN or infinite."""
    repeated: Count = 0
    """Rows equal to the row before them (a sensor that is stuck repeats itself); they stand in ``counts`` too."""
    withheld: Count = 0
    """Rows of which only this sum is told; with the others they make all rows."""


class SignalVerdict(Struct, frozen=True, kw_only=True):
    """One signal's statistics in one window. It stays where it was computed: counts and reference give it again."""

    level: VerdictLevel
    rows: Count
    """Rows that had a value: the sample size of the statistics and of the test."""
    psi: float
    js: float
    """Jensen-Shannon distance, 0 to 1."""
    ks: float
    """0 where the bins have no order (classes, categories), as ``wasserstein``."""
    wasserstein: float
    """In standard deviations of the reference."""
    p_value: float
    """Of ``test``, Benjamini-Hochberg corrected over the judged signals; 1 where the signal was not tested."""
    test: Literal["ks", "chi-squared"] = "ks"
    """Chi-squared where the bins have no order."""
    missing_rate: float
    not_finite_rate: float
    outside_rate: float
    """Share under the first or over the last edge."""
    constant: bool = False
    """Almost every row repeated the one before it, as a stuck sensor does."""


MovedStatistic = Literal["psi", "missing", "not-finite", "outside"]
"""What says how far a signal moved: its distribution, or a share of its rows that is too large."""


class MovedSignal(Struct, frozen=True, kw_only=True):
    """One of the signals that moved most. Numbers have four significant digits."""

    signal: str
    level: VerdictLevel
    rows: Count
    """Rows that had a value."""
    statistic: MovedStatistic
    value: float
    """PSI, or the share."""
    p_value: float
    """Corrected."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What a window says; carries its sample size and its correction."""

    level: VerdictLevel
    rows: Count
    correction: Literal["benjamini-hochberg"]
    alpha: float
    judged: Count
    """Signals that had enough rows."""
    moved_most: tuple[MovedSignal, ...]
    """Up to three, the one that moved most first."""
    reason: str
    """One plain sentence."""


class Alarm(Struct, frozen=True, kw_only=True):
    """What is to be believed after persistence and hysteresis; one window alone raises nothing."""

    level: VerdictLevel
    since: UnixTime
    """When it came to this level."""
    windows: Count
    """That it has had this level."""
    changed: tuple[str, ...] = ()
    """Signals in which the sequential detector saw an abrupt change in this window."""


class AccuracyEstimate(Struct, frozen=True, kw_only=True):
    """Accuracy estimated without labels (CBPE), with its confidence interval."""

    accuracy: float
    low: float
    high: float
    level: float
    """Of the interval, as 0.95."""
    rows: Count
    """It is made from."""


class Withheld(Struct, frozen=True, kw_only=True):
    """Counts are not as they were counted, for privacy."""

    mechanism: Literal["suppressed", "noised"]
    parameter: float
    """Smallest count that is told, or scale of the noise."""


class DriftWindow(Struct, frozen=True, kw_only=True, omit_defaults=True):
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
    slice: str | None = None
    """``parameter=value`` or ``parameter=other``; None is the whole."""
    incomplete: bool = False
    """The runner ended before it could close the window; what is here is what was last known."""
    merged: Count = 1
    """Windows it was made of, by thinning on the device."""
    alarm: Alarm | None = None
    estimate: AccuracyEstimate | None = None
    estimate_off: str | None = None
    """Why there is no estimate."""
    withheld: Withheld | None = None
