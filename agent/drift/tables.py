"""Counts of signals with different numbers of bins, as one matrix."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Table:
    """Puts rows of known, different lengths into a matrix of shape (signals, longest), padded with zeros."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._shape = (len(lengths), max(lengths))
        self._total = sum(lengths)
        self._places = np.flatnonzero(np.arange(self._shape[1]) < np.array(lengths)[:, None])
        self._full = self._total == self._shape[0] * self._shape[1]

    def of(self, rows: Iterable[Sequence[int]]) -> Floats:
        """The matrix, float64; raises :class:`ValueError` where there are fewer numbers than the lengths say."""
        return self.laid_out(np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=self._total))

    def laid_out(self, flat: NDArray[np.float64]) -> Floats:
        """The matrix of rows that follow each other in one vector."""
        if self._full:
            return flat.reshape(self._shape)
        matrix = np.zeros(self._shape[0] * self._shape[1])
        matrix[self._places] = flat
        return matrix.reshape(self._shape)
