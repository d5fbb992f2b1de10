"""Counts of which a device tells some cells as one sum only (``suppressed``), made fit to be judged. Pure."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from agent.protocol.drift import DriftReference, SignalCounts, SignalReference


def filled(reference: DriftReference, signals: Mapping[str, SignalCounts]) -> dict[str, SignalCounts]:
    """``signals`` of one window with the withheld rows laid into the cells that are told as 0, as the reference has them there.

    Cells that are hidden are those that held few rows: left at 0, every healthy device would lack the same ones. So what is not told
    speaks neither for drift nor against it, and what is told is judged as it is. Counts add up to the same rows.
    """
    return {
        name: _filled(signal, signals[name]) if signals[name].withheld else signals[name]
        for signal in reference.signals
        if (name := signal.name) in signals
    }


def _filled(signal: SignalReference, told: SignalCounts) -> SignalCounts:
    usual = (*signal.counts, signal.missing, signal.not_finite)
    cells = [*told.counts, told.missing, told.not_finite]
    if len(cells) != len(usual):
        return told
    weights = _weights(usual, cells, told.withheld)
    if not any(weights):
        return told
    cells = [cell + more for cell, more in zip(cells, _shared(told.withheld, weights), strict=True)]
    return replace(told, counts=tuple(cells[:-2]), missing=cells[-2], not_finite=cells[-1], withheld=0)


def _weights(usual: Sequence[int], cells: Sequence[int], withheld: int) -> list[int]:
    """Where the withheld rows may be: no hidden cell is larger than one that is told.

    Where that can't be, the window was merged of several after its cells were hidden: then where rows lack by the reference.
    """
    hidden = [0 if cell else weight for cell, weight in zip(cells, usual, strict=True)]
    smallest = min((cell for cell in cells if cell), default=withheld)
    if withheld <= smallest * sum(map(bool, hidden)):
        return hidden
    rows, total = sum(cells) + withheld, sum(usual)
    return [max(0, rows * weight - total * cell) for cell, weight in zip(cells, usual, strict=True)]


def _shared(rows: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers in the ratio of ``weights`` that add up to ``rows``; the largest remainders get what is left over."""
    total = sum(weights)
    shares = [rows * weight // total for weight in weights]
    order = sorted(range(len(weights)), key=lambda place: (-(rows * weights[place] % total), place))
    for place in order[: rows - sum(shares)]:
        shares[place] += 1
    return shares
