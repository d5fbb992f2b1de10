"""What a reference holds, in words: a table of its signals, its calibration, and warnings of what will not help."""

from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.drift import signal_values
from agent.drift.binning import Floats
from agent.drift.soundness import required_rows
from agent.protocol.drift import DriftReference, SignalReference
from models.reference.build import Rows

CROWDED = 0.9
"""Share of the rows in one bin from which a change among them is hardly seen."""

MOSTLY_MISSING = 0.5
SAME = 0.99
"""Rank correlation from which two signals say the same."""


def show(reference: DriftReference, size: int, where: str, console: Console) -> None:
    """Print the table; ``size`` in bytes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("signal", no_wrap=True)
    table.add_column("taken from", no_wrap=True)
    for heading in ("bins", "from", "to", "missing", "not finite", "needs rows"):
        table.add_column(heading, justify="right", no_wrap=True)
    for signal in reference.signals:
        table.add_row(*_cells(signal, reference))
    console.print(
        f"{where}: {len(reference.signals)} signals of {reference.rows:,} rows, {size:,} bytes",
        highlight=False,
    )
    console.print(table, highlight=False)
    console.print(_calibration(reference), highlight=False)


def _cells(signal: SignalReference, reference: DriftReference) -> tuple[str, ...]:
    index = "" if signal.index is None else f"[{signal.index}]"
    bins = len(signal.edges) - 1
    if signal.summary in {"argmax", "category"}:
        known = signal.categories or range(bins)
        span = (str(min(known)), str(max(known)))
    else:
        span = (f"{signal.edges[0]:.4g}", f"{signal.edges[-1]:.4g}")
    return (
        signal.name,
        f"{signal.summary} of {signal.source} {signal.tensor}{index}".replace("[", r"\["),
        str(bins),
        *span,
        str(signal.missing),
        str(signal.not_finite),
        str(required_rows(signal, reference.policy)),
    )


def _calibration(reference: DriftReference) -> str:
    calibration = reference.calibration
    if calibration is None:
        return "No labels or no signal 'confidence': accuracy will not be estimated."
    rows, right = sum(calibration.rows), sum(calibration.correct)
    basis = f"{rows:,} labelled rows, {rows - right:,} of them wrong"
    if calibration.problem is not None:
        return f"Accuracy will not be estimated ({basis}): {calibration.problem}"
    return (
        f"Accuracy will be estimated from {calibration.signal}: {right / rows:.1%} right on {basis}; calibration error on "
        f"held-out rows {calibration.expected_error:.3f}."
    )


def warnings(reference: DriftReference, rows: Rows) -> Iterator[str]:
    """Sentences about signals that will say little, and why."""
    values = signal_values(reference, rows.inputs, rows.outputs)
    for column, signal in enumerate(reference.signals):
        text = _useless(signal, values[:, column], reference.rows)
        if text:
            yield f"{signal.name}: {text}"
    yield from _twins(reference, values)
    window = reference.policy.window_rows
    if reference.rows < window:
        yield (
            f"the reference has {reference.rows} rows, a window has {window}: most of the chance in a verdict is the "
            "reference's own; more data makes smaller changes visible"
        )


def _useless(signal: SignalReference, values: Floats, rows: int) -> str:
    absent = signal.missing + signal.not_finite
    if absent > MOSTLY_MISSING * rows:
        return f"{absent / rows:.0%} of its rows have no value"
    known = values[np.isfinite(values)]
    if known.size and known.min() == known.max():
        return f"is always {known[0]:g} in the data: it can only say that this has changed"
    most = max(signal.counts) / max(sum(signal.counts), 1)
    if signal.summary not in {"argmax", "category"} and most > CROWDED:
        return f'{most:.0%} of its rows lie in one bin; set spacing = "quantile" to see changes among them'
    return ""


def _twins(reference: DriftReference, values: Floats) -> Iterator[str]:
    """Signals that rank the rows alike: the second one costs and says nothing new."""
    usable = [
        column
        for column, signal in enumerate(reference.signals)
        if signal.summary not in {"argmax", "category"}
        and np.isfinite(values[:, column]).all()
        and values[:, column].min() < values[:, column].max()
    ]
    if len(usable) < 2:  # noqa: PLR2004 - a pair
        return
    ranks = values[:, usable].argsort(axis=0, kind="stable").argsort(axis=0, kind="stable").astype(np.float64)
    alike = np.abs(np.corrcoef(ranks, rowvar=False))
    for first, second in np.argwhere(np.triu(alike, 1) > SAME).tolist():
        names = [reference.signals[usable[place]].name for place in (first, second)]
        yield f"{names[1]}: says the same as {names[0]} (rank correlation {alike[first, second]:.3f})"
