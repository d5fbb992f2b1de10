"""The verdict on a window: both large enough to matter and too large to be chance, or it is not drift.

A signal is

- ``insufficient data`` where the window or the reference has fewer rows than
  :func:`agent.drift.reference.required_rows`;
- ``drift`` where the share of missing rows, or of rows outside the reference's range, is over the reference's own
  share by more than ``maximum_outside`` and this excess is significant; or where PSI reaches ``psi_drift`` and the
  distribution differs significantly;
- ``warning`` where PSI reaches ``psi_warning`` and the distribution differs significantly;
- ``ok`` otherwise.

Significant: a p-value under ``alpha`` after the Benjamini-Hochberg correction. There are two families: one test of
the distribution a signal, and two tests of shares (missing, outside) a signal. The distribution is tested with
two-sample KS; the class (``argmax``) has no order, so Pearson's chi-squared test takes its place and ``ks`` is 0.
A window's level is that of its worst signal.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.drift import statistics
from agent.drift.errors import LayoutError
from agent.drift.reference import required_rows
from agent.protocol.drift import DriftReference, SignalCounts, SignalVerdict, Verdict, VerdictLevel

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEVELS: tuple[VerdictLevel, ...] = ("insufficient data", "ok", "warning", "drift")
SEVERITY: dict[VerdictLevel, int] = {level: severity for severity, level in enumerate(LEVELS)}
MOVED_MOST = 3


def judge(reference: DriftReference, counts: Mapping[str, SignalCounts], rows: int) -> Verdict:
    """Compare a window, or windows merged over devices, with the reference.

    Raises:
        LayoutError: ``counts`` do not have the reference's signals and bins, or do not add up to ``rows``.
    """
    return Judge(reference).verdict(counts, rows)


class Judge:
    """:func:`judge` for one reference, whose side of the statistics is prepared once."""

    def __init__(self, reference: DriftReference) -> None:
        self._reference = reference
        self._names = [signal.name for signal in reference.signals]
        self._width = max(len(signal.counts) for signal in reference.signals)
        self._counts = self._matrix([signal.counts for signal in reference.signals])
        self._missing = [signal.missing for signal in reference.signals]
        self._present = self._counts.sum(axis=1)
        self._outside = _outside([signal.counts for signal in reference.signals])
        self._classes = [i for i, signal in enumerate(reference.signals) if signal.summary == "argmax"]
        self._tests: list[Literal["ks", "chi-squared"]] = [
            "chi-squared" if signal.summary == "argmax" else "ks" for signal in reference.signals
        ]
        self._needed = np.array([required_rows(signal, reference.policy) for signal in reference.signals])

    def verdict(self, counts: Mapping[str, SignalCounts], rows: int) -> Verdict:
        """See :func:`judge`."""
        check_counts(self._reference, counts, rows)
        window = [counts[name] for name in self._names]
        matrix = self._matrix([signal.counts for signal in window])
        missing = [signal.missing for signal in window]
        outside = _outside([signal.counts for signal in window])
        present = matrix.sum(axis=1)
        psi = statistics.population_stability(matrix, self._counts)
        ks = statistics.kolmogorov_smirnov(matrix, self._counts)
        judged = np.minimum(present, self._present) >= self._needed
        p_values = self._distribution_p(matrix, present, ks, judged)
        excessive = self._excessive(missing, outside, rows)
        ks[self._classes] = 0.0
        columns = zip(
            self._names,
            self._levels(rows, excessive, judged, psi, p_values),
            present.astype(np.int64).tolist(),
            psi.tolist(),
            ks.tolist(),
            p_values.tolist(),
            self._tests,
            missing,
            outside,
            strict=True,
        )
        signals = {
            name: SignalVerdict(
                level=level,
                rows=known,
                psi=stability,
                ks=distance,
                p_value=p_value,
                test=test,
                missing_rate=absent / max(rows, 1),
                outside_rate=beyond / max(rows, 1),
            )
            for name, level, known, stability, distance, p_value, test, absent, beyond in columns
        }
        return self._combine(signals, rows)

    def _matrix(self, counts: Sequence[tuple[int, ...]]) -> Floats:
        return np.array([row + (0,) * (self._width - len(row)) for row in counts], dtype=np.float64)

    def _distribution_p(self, matrix: Floats, present: Floats, ks: Floats, judged: Flags) -> Floats:
        """Corrected p-values over the judged signals; 1 for the others, which are not tested."""
        p_values = statistics.ks_p_values(ks, present, self._present)
        for i in self._classes:
            p_values[i] = statistics.chi_squared_p_value(matrix[i], self._counts[i])
        p_values[~judged] = 1.0
        p_values[judged] = statistics.benjamini_hochberg(p_values[judged])
        return p_values

    def _excessive(self, missing: list[int], outside: list[int], rows: int) -> Flags:
        """Signals whose missing or outside share is over the reference's by too much to matter and to be chance."""
        policy, reference_rows = self._reference.policy, self._reference.rows
        found = np.array([*missing, *outside], dtype=np.float64)
        expected = np.array([*self._missing, *self._outside], dtype=np.float64)
        growth = found / max(rows, 1) - expected / max(reference_rows, 1)
        p_values = statistics.excess_p_values(found, rows, expected, reference_rows)
        flags = (growth > policy.maximum_outside) & (statistics.benjamini_hochberg(p_values) < policy.alpha)
        missing_flags, outside_flags = flags.reshape(2, -1)
        either: Flags = missing_flags | outside_flags
        return either

    def _levels(
        self, rows: int, excessive: Flags, judged: Flags, psi: Floats, p_values: Floats
    ) -> list[VerdictLevel]:
        policy = self._reference.policy
        significant = p_values < policy.alpha
        drift = excessive | (judged & significant & (psi >= policy.psi_drift))
        warning = judged & significant & (psi >= policy.psi_warning)
        levels = np.select([rows < self._needed, drift, warning, judged], [0, 3, 2, 1], default=0)
        return [LEVELS[level] for level in levels.tolist()]

    def _combine(self, signals: dict[str, SignalVerdict], rows: int) -> Verdict:
        level = max((signal.level for signal in signals.values()), key=SEVERITY.__getitem__)
        judged = [name for name, signal in signals.items() if signal.level != "insufficient data"]
        judged.sort(key=lambda name: (SEVERITY[signals[name].level], signals[name].psi), reverse=True)
        moved_most = tuple(judged[:MOVED_MOST])
        return Verdict(
            level=level,
            rows=rows,
            correction="benjamini-hochberg",
            alpha=self._reference.policy.alpha,
            signals=signals,
            moved_most=moved_most,
            reason=self._reason(level, signals, rows, moved_most),
        )

    def _reason(
        self, level: VerdictLevel, signals: dict[str, SignalVerdict], rows: int, moved_most: tuple[str, ...]
    ) -> str:
        if not moved_most:
            return self._reason_insufficient(rows)
        policy = self._reference.policy
        first = signals[moved_most[0]]
        judged = sum(signal.level != "insufficient data" for signal in signals.values())
        basis = f"{rows} rows, {judged} of {len(signals)} signals judged"
        most = f"{moved_most[0]} (PSI {first.psi:.2f}, corrected p {first.p_value:.2g})"
        if level == "ok":
            why = "which may be chance" if first.psi >= policy.psi_warning else "within limits"
            return f"No drift: {most} moved most, {why}; {basis}."
        index = self._names.index(moved_most[0])
        if self._excessive_alone(first):
            usual_missing = self._missing[index] / max(self._reference.rows, 1)
            usual_outside = self._outside[index] / max(self._reference.rows, 1)
            return (
                f"Drift: {moved_most[0]} is missing in {first.missing_rate:.1%} of rows (reference "
                f"{usual_missing:.1%}) and outside its range in {first.outside_rate:.1%} "
                f"(reference {usual_outside:.1%}); {basis}."
            )
        limit = policy.psi_drift if level == "drift" else policy.psi_warning
        return f"{level.capitalize()}: {most} moved most, the limit is PSI {limit:g}; {basis}."

    def _excessive_alone(self, signal: SignalVerdict) -> bool:
        """Whether shares, not the distribution, made this signal's level."""
        policy = self._reference.policy
        return signal.level == "drift" and (signal.psi < policy.psi_drift or signal.p_value >= policy.alpha)

    def _reason_insufficient(self, rows: int) -> str:
        if rows >= min(self._needed):
            return (
                f"Insufficient data: {rows} rows, but too few of them, or of the reference's, have the signals' "
                f"values; at least {min(self._needed)} are needed on both sides."
            )
        return f"Insufficient data: {rows} rows, at least {min(self._needed)} are needed for a verdict."


def _outside(counts: Sequence[tuple[int, ...]]) -> list[int]:
    return [row[0] + row[-1] for row in counts]


def check_counts(reference: DriftReference, counts: Mapping[str, SignalCounts], rows: int) -> None:
    """Check that counts have the reference's layout and add up.

    Raises:
        LayoutError: they do not; the text names the signal.
    """
    expected = {signal.name: len(signal.counts) for signal in reference.signals}
    if counts.keys() != expected.keys():
        odd = ", ".join(sorted(counts.keys() ^ expected.keys()))
        raise LayoutError(f"window: its signals and the reference's differ: {odd}")
    for name, size in expected.items():
        found = counts[name]
        if len(found.counts) != size:
            raise LayoutError(
                f"window: signal {name} has {len(found.counts)} counts, the reference has {size}"
            )
        total = sum(found.counts) + found.missing + found.not_finite
        if total != rows:
            raise LayoutError(f"window: signal {name} counts {total} rows, the window has {rows}")
