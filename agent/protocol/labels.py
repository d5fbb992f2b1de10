"""Labels that come later: what was right for a request that a model answered before. They join by the request's id."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.ids import Count, Name, UnixTime

LabelOrigin = Literal["person", "system", "model"]
"""Who says what was right: a person; a system that measured it; a model, which is never counted as the truth."""

RANK: dict[LabelOrigin, int] = {"model": 0, "system": 1, "person": 2}
"""A label takes the place of another one of its own rank or a lower one."""

MAX_LABELS = 500
"""In one message."""

MAX_LABELS_BYTES = 128 * 1024
"""Of a request's body."""

_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$(?!\n)"

RequestId = Annotated[str, Meta(min_length=1, max_length=140, pattern=_PRINTABLE)]
"""The request's ``id``; of a request with several rows ``id#row``, counted from 0."""

LabelText = Annotated[str, Meta(min_length=1, max_length=128, pattern=_PRINTABLE)]
"""One of the manifest's ``labels``; of a model without any, the number of the class."""


class Label(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was right for one request."""

    request: RequestId
    label: LabelText
    origin: LabelOrigin
    time: UnixTime | None = None
    """When it was found out; None: when it arrives. Of two labels of one rank the later one counts."""


class ModelLabels(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v2/models/<model>/labels``."""

    labels: Annotated[tuple[Label, ...], Meta(min_length=1, max_length=MAX_LABELS)]


LabelOutcome = Literal[
    "joined", "corrected", "repeated", "outdated", "outranked", "unknown", "ambiguous", "not-a-label"
]
"""``joined``: counted. ``corrected``: counted in place of the one before. The others change nothing: ``repeated``: the same
label is there; ``outdated``, ``outranked``: a later one is there, or one of a higher rank; ``unknown``: no request of that id is
kept; ``ambiguous``: requests with different answers had that id; ``not-a-label``: the release has no such class."""

SETTLED: frozenset[LabelOutcome] = frozenset({"joined", "corrected", "repeated"})
"""After these the device knows what was to be said."""


class LabelAnswer(Struct, frozen=True, kw_only=True):
    """What became of one label."""

    request: str
    outcome: LabelOutcome
    text: str
    """In words."""


class LabelsAnswer(Struct, frozen=True, kw_only=True):
    """What became of a message's labels, in its order."""

    answers: tuple[LabelAnswer, ...]


class LabelDelivery(Struct, frozen=True, kw_only=True):
    """Hub → device: labels for one model. Sent again until acknowledged; taking them twice changes nothing."""

    v: Literal[1] = 1
    id: Name
    model: Name
    labels: Annotated[tuple[Label, ...], Meta(min_length=1, max_length=MAX_LABELS)]


class LabelReceipt(Struct, frozen=True, kw_only=True):
    """Device → hub: that delivery has been joined with what the device keeps, and is durable there."""

    v: Literal[1] = 1
    id: Name
    outcomes: dict[LabelOutcome, Count]
    """How many labels met each; they add up to the delivery's."""
    refused: Annotated[tuple[LabelAnswer, ...], Meta(max_length=32)] = ()
    """The first of those that could not be joined."""
    problem: Annotated[str, Meta(max_length=500)] | None = None
    """Why none of it could be taken, where sending it again won't help."""


class Prediction(Struct, frozen=True, array_like=True):
    """What the model said of one row, with which a label can be compared."""

    request: str
    """As :data:`RequestId`."""
    time: float
    """Unix seconds."""
    slice: str | None
    """As in :class:`agent.protocol.drift.DriftWindow`."""
    label: str
    confidence: float
    """Largest element of the output."""
    expected: float | None
    """Share of right answers at that confidence, by the reference's calibration; None where it has none that holds."""


class AccuracyFigure(Struct, frozen=True, kw_only=True):
    """Joined labels of one model, release, slice and origin, over a stretch of time."""

    model: Name
    release: Count
    slice: str | None = None
    origin: LabelOrigin
    opened: UnixTime
    """The first request's day began."""
    closed: UnixTime
    """The last request's day ended."""
    rows: Count
    correct: Count
    low: float
    """Of the 95 % interval of the real accuracy (Wilson's)."""
    high: float
    expected: float | None = None
    """Accuracy that the calibration expects on the same rows."""
    suspicious: str | None = None
    """Why these labels may be the model's own output, where they look like it."""
    contradicts: str | None = None
    """Why the accuracy estimate is switched off, where these labels contradict it."""
    estimate: float | None = None
    """Label-free, of the newest window."""
    estimate_low: float | None = None
    estimate_high: float | None = None


class LabelCounts(Struct, frozen=True, kw_only=True):
    """What one device keeps and has met."""

    predictions: Count
    """Kept now."""
    oldest: UnixTime | None
    """The oldest one's time."""
    labelled: Count
    """Of them."""
    skipped: Count
    """Predictions that were not kept, since the database is new: over ``labels.predictions_per_minute``."""
    outcomes: dict[str, Count]
    """Labels by outcome, since the database is new."""
