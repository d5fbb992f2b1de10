"""An abrupt change between windows: Page-Hinkley on each signal's distance from the reference.

A window alone is judged by how far it is from the reference. A device may well stand at some distance for ever (its
lamp is a little darker than that of the others), below every limit; that it came there from one window to the next is
news all the same. The detector follows the distance itself, and reports where its mean changes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.drift import statistics
from agent.drift.tables import Table
from agent.protocol.drift import DriftReference, SequentialPolicy, SignalCounts, SignalReference

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

FIELDS = 4
"""Rows of a detector's state: values seen, their mean, cumulated excess upwards and downwards."""


class Distances:
    """How unlike the reference each signal of a window is, in standard deviations of chance."""

    def __init__(self, reference: DriftReference) -> None:
        self._names = [signal.name for signal in reference.signals]
        self._table = Table([len(signal.counts) + 2 for signal in reference.signals])
        self._reference = self._matrix(reference.signals)

    def of(self, counts: Mapping[str, SignalCounts]) -> Floats:
        """:meth:`of_slots`, of counts by name."""
        return self._of(self._matrix([counts[name] for name in self._names]))

    def of_slots(self, slots: Ints) -> Floats:
        """Shape (signals,), finite; about 0 ± 1 while nothing has changed, whatever the number of rows or bins.

        Pearson's two-sample statistic over under, bins, over, missing and not finite, brought near a normal one by its
        root, ``√(2 X²) - √(2 k - 1)`` with ``k`` degrees of freedom (Fisher 1922). It grows as the change does, and with
        the root of the rows. 0 where there is nothing to compare.

        ``slots``: the vector of an :class:`agent.drift.binning.Binner`.
        """
        return self._of(self._table.laid_out(slots.astype(np.float64)))

    def _of(self, matrix: Floats) -> Floats:
        statistic, degrees = statistics.chi_squared(matrix, self._reference)
        usual = np.sqrt(np.maximum(2 * degrees - 1, 0).astype(np.float64))
        return np.where(degrees > 0, np.sqrt(2 * statistic) - usual, 0.0)

    def _matrix(self, signals: Sequence[SignalCounts | SignalReference]) -> Floats:
        return self._table.of((*one.counts, one.missing, one.not_finite) for one in signals)


def initial(signals: int) -> Floats:
    """The state before the first window, shape (:data:`FIELDS`, signals)."""
    return np.zeros((FIELDS, signals))


def step(state: Floats, values: Floats, policy: SequentialPolicy) -> tuple[Floats, Flags]:
    """The state after one more window, and the signals that changed with it; shape (signals,) both ways.

    Page-Hinkley (Page 1954) in both directions: the cumulated excess over the mean so far, less ``tolerance``, and
    never under zero. A signal that changed starts afresh. Where a value is NaN the signal's state stays as it is.
    """
    seen, mean, up, down = state
    known = np.isfinite(values)
    x = np.where(known, values, 0.0)
    count = seen + 1
    centre = mean + (x - mean) / count
    deviation = x - centre
    rise = np.maximum(up + deviation - policy.tolerance, 0.0)
    fall = np.maximum(down - deviation - policy.tolerance, 0.0)
    changed = known & (count >= policy.minimum_windows) & (np.maximum(rise, fall) > policy.threshold)
    after = np.stack([count, centre, rise, fall])
    after[:, changed] = 0.0
    return np.where(known, after, state), changed
