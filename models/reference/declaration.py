"""``signals.toml``: which signals are monitored, and when a window is judged."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from agent.protocol.drift import DriftPolicy, Layout, SignalSource, Summary
from agent.protocol.ids import Name
from agent.protocol.manifest import Datatype, Positive
from agent.protocol.settings import wrong_setting
from models.errors import DeclarationError

OUTPUT_SUMMARIES: frozenset[Summary] = frozenset({"confidence", "margin", "entropy", "argmax"})
"""Taken from an output unless it is said otherwise."""

ELEMENT_SUMMARIES: frozenset[Summary] = frozenset({"value", "category"})
"""Of one element of a row."""


class SignalDeclaration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One monitored signal; its name is what windows, verdicts and pages call it."""

    summary: Summary
    """How one number a row is taken from the tensor; docs/drift.md says each formula."""
    tensor: str | None = None
    """The tensor's name in the manifest. Not set: the only tensor of that side."""
    source: SignalSource | None = None
    """Not set: an output for `confidence`, `margin`, `entropy` and `argmax`, an input for all others."""
    column: str | None = None
    """For `value` and `category`: the element, by its name in `data.columns`."""
    index: Annotated[int, Meta(ge=0)] | None = None
    """For `value` and `category`: the element, by its place in the flattened row."""
    missing_value: float | None = None
    """For `value` and `category`: a number that stands for "not known"; such rows are counted as missing."""
    categories: tuple[int, ...] = ()
    """For `category`: the known codes. Empty: those in the data, the most frequent `bins` of them; others count as "other"."""
    layout: Layout | None = None
    """For summaries of images: the axes of one image."""
    full_scale: Positive | None = None
    """For `clipping`: the magnitude from which a sample is clipped."""
    components: Annotated[int, Meta(ge=1, le=16)] = 4
    """For `projection`: so many principal components of the data, each a signal of its own: NAME-0, NAME-1, …"""
    bins: Annotated[int, Meta(ge=2, le=64)] = 10
    """Bins between the smallest and the largest value. Each needs 25 rows in a window."""
    spacing: Literal["uniform", "quantile"] = "uniform"
    """`uniform` bins are quicker on the device; `quantile` bins see more where values crowd together."""


class DataDeclaration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a table is read. Arrays by name (.npz) need nothing of this."""

    tensor: str | None = None
    """The input tensor that the columns (CSV) or the only array (.npy) become. Not set: the model's only input."""
    columns: tuple[str, ...] = ()
    """The elements of a row, in the model's order. Empty: all columns of the CSV file in its order, but for the label."""
    label: str | None = None
    """The column, or the array of a .npz file, with the class that each row really is, as a whole number from 0."""
    group: str | None = None
    """The column or array with a whole number a row: rows that stem from the same original share it, and the check of the
    calibration never sees them on both sides."""


class TensorDeclaration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor, as the manifest declares it."""

    datatype: Datatype
    """For instance `FP32`."""
    shape: tuple[Annotated[int, Meta(ge=-1)], ...]
    """With the batch axis first; -1 is an open dimension."""


class ModelDeclaration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model file takes and gives. Not needed for a release folder, which says it itself."""

    inputs: dict[str, TensorDeclaration] = {}
    """By name."""
    outputs: dict[str, TensorDeclaration] = {}
    """By name."""


class Declaration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    signals: dict[Name, SignalDeclaration]
    """By name: 1-64 characters of a-z 0-9 . _ -."""
    policy: DriftPolicy = DriftPolicy()
    """When a window is judged, and how sure the judgement must be."""
    data: DataDeclaration = DataDeclaration()
    """How a table is read."""
    model: ModelDeclaration = ModelDeclaration()
    """What the model file takes and gives."""


def read_declaration(path: Path) -> Declaration:
    """Read and check the file.

    Raises:
        DeclarationError: it can't be read, is not TOML, or says something that is not allowed or contradicts itself; the
            text names the setting, its value and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"{path}: can't be read: {error}") from error
    return parse_declaration(text, source=str(path))


def parse_declaration(text: str, *, source: str) -> Declaration:
    """Check the text; raises like :func:`read_declaration`."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DeclarationError(f"{source}: not TOML: {error}") from error
    problem = wrong_setting(raw, Declaration)
    if problem:
        raise DeclarationError(f"{source}: {problem}")
    declaration = msgspec.convert(raw, Declaration)
    if not declaration.signals:
        raise DeclarationError(f"{source}: signals: at least one is needed, as a table [signals.NAME]")
    for name, signal in declaration.signals.items():
        problem = _contradiction(signal, declaration.data.columns)
        if problem:
            raise DeclarationError(f"{source}: signals.{name}: {problem}")
    return declaration


def _contradiction(signal: SignalDeclaration, columns: tuple[str, ...]) -> str:
    element = signal.summary in ELEMENT_SUMMARIES
    places = (signal.index is not None) + (signal.column is not None)
    if element and places != 1:
        return f"summary {signal.summary!r} is of one element: set 'column' or 'index', and not both"
    if not element and places:
        return (
            f"'column' and 'index' are for the summaries value and category, this one is {signal.summary!r}"
        )
    if signal.column is not None and columns and signal.column not in columns:
        return f"column = {signal.column!r}: is not in data.columns; allowed: {', '.join(columns)}"
    only: tuple[tuple[str, bool, frozenset[str]], ...] = (
        ("missing_value", signal.missing_value is not None, ELEMENT_SUMMARIES),
        ("categories", bool(signal.categories), frozenset({"category"})),
        ("full_scale", signal.full_scale is not None, frozenset({"clipping"})),
    )
    for setting, is_set, summaries in only:
        if is_set and signal.summary not in summaries:
            return f"{setting}: is for {' and '.join(sorted(summaries))}, this one is {signal.summary!r}"
    return ""


def source_of(signal: SignalDeclaration) -> SignalSource:
    """The side of the model that the signal is taken from."""
    return signal.source or ("output" if signal.summary in OUTPUT_SUMMARIES else "input")
