"""Whether two models answered the same, row by row."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.runner.backends import Array

_CLASS_RANK = 2
"""Outputs of at least this rank, with more than one column, are taken as (rows, …, classes)."""


def disagreeing_rows(
    ours: Mapping[str, Array], theirs: Mapping[str, Array], *, rows: int, tolerance: float | None
) -> int:
    """In how many of the ``rows`` any output differs.

    With a ``tolerance``, every number may differ by so much. Without one (None), an output with classes agrees where the
    arg-max of its last axis is the same, and every other one where it is equal. What is not finite never agrees, and a
    missing output or another shape or dtype is a disagreement of every row.
    """
    agreed = np.ones(rows, np.bool_)
    for name, mine in ours.items():
        other = theirs.get(name)
        if other is None or other.shape != mine.shape or other.dtype != mine.dtype:
            return rows
        agreed &= _by_row(_agreement(mine, other, tolerance), rows)
    return rows - int(np.count_nonzero(agreed))


def _agreement(mine: Array, other: Array, tolerance: float | None) -> NDArray[np.bool_]:
    """Element by element, or along the last axis where that holds classes."""
    numbers = mine.dtype.kind in "fiu"
    if not numbers:
        return np.asarray(mine == other, np.bool_)
    finite = np.isfinite(mine) & np.isfinite(other)
    if tolerance is None:
        if mine.ndim >= _CLASS_RANK and mine.shape[-1] > 1:
            same = mine.argmax(axis=-1) == other.argmax(axis=-1)
            return np.asarray(same & finite.all(axis=-1), np.bool_)
        return np.asarray((mine == other) & finite, np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(mine.astype(np.float64) - other.astype(np.float64))
        return np.asarray((difference <= tolerance) & finite, np.bool_)


def _by_row(agreement: NDArray[np.bool_], rows: int) -> NDArray[np.bool_]:
    if agreement.ndim and agreement.shape[0] == rows:
        return np.asarray(agreement.reshape(rows, -1).all(axis=1), np.bool_)
    # One value for the whole batch: it speaks for every row.
    return np.full(rows, bool(agreement.all()))
