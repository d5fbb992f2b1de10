"""Signals that are single elements of a row: numbers and categories, with their sentinels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.drift.binning import MISSING
from agent.drift.errors import SignalError
from agent.drift.views import Array, Floats
from agent.protocol.drift import SignalReference


class Elements:
    """Gathers the elements of one tensor in one step; categories and sentinels, where there are any, in another."""

    def __init__(self, members: Sequence[tuple[int, SignalReference]]) -> None:
        """``members``: column of the signal matrix, and its signal, ``value`` or ``category``."""
        places = [signal.index or 0 for _, signal in members]
        self._names = [signal.name for _, signal in members]
        self._columns = _run([column for column, _ in members])
        self._places = _run(places)
        self._last = max(places, default=-1)
        sentinels = [
            (column, signal.missing_value) for column, signal in members if signal.missing_value is not None
        ]
        self._with_sentinel = np.array([column for column, _ in sentinels], dtype=np.intp)
        self._sentinels = np.array([value for _, value in sentinels], dtype=np.float64)
        self._categories = [
            (column, np.array(signal.categories or (), dtype=np.float64))
            for column, signal in members
            if signal.summary == "category"
        ]

    def check(self, width: int) -> None:
        """Raises :class:`SignalError` where a row of ``width`` elements lacks one of them."""
        if self._last >= width:
            raise SignalError(
                f"signals {', '.join(self._names)}: element {self._last} is asked for, a row has {width}"
            )

    def fill(self, matrix: Floats, flat: Array) -> None:
        """``matrix``: float64 (rows, signals), whose columns are written; ``flat``: (rows, elements), rows > 0."""
        if not self._names:
            return
        matrix[:, self._columns] = flat[:, self._places]
        if self._with_sentinel.size:
            missing = self._find_missing(matrix, flat.dtype)
        for column, known in self._categories:
            matrix[:, column] = _place_in(known, matrix[:, column])
        if self._with_sentinel.size:
            columns = matrix[:, self._with_sentinel]
            # What is infinite by itself may not be taken for the mark.
            columns[columns == MISSING] = np.nan
            columns[missing] = MISSING
            matrix[:, self._with_sentinel] = columns

    def _find_missing(self, matrix: Floats, dtype: np.dtype[np.generic]) -> NDArray[np.bool_]:
        sentinels = self._sentinels
        if dtype.kind == "f":  # as the tensor can hold it: -999.9 is another number in float32
            sentinels = sentinels.astype(dtype).astype(np.float64)
        found: NDArray[np.bool_] = matrix[:, self._with_sentinel] == sentinels
        return found


def _place_in(known: Floats, codes: Floats) -> Floats:
    """The place of each code among the known ones, ascending; their number for any other code, NaN for none."""
    places = np.searchsorted(known, codes)
    places[places == len(known)] = 0
    matches = known[places] == codes if len(known) else np.zeros(len(codes), dtype=np.bool_)
    return np.where(matches, places, np.where(np.isfinite(codes), float(len(known)), np.nan))


def _run(places: list[int]) -> slice | NDArray[np.intp]:
    """The same places as a slice where they are consecutive, which is copied several times as fast."""
    if places and places == list(range(places[0], places[0] + len(places))):
        return slice(places[0], places[0] + len(places))
    return np.array(places, dtype=np.intp)
