"""The verdict on a window: both large enough to matter and too large to be chance, or it is not drift.

A signal is

- ``insufficient data`` where the window or the reference has fewer rows than
  :func:`agent.drift.soundness.required_rows`;
- ``drift`` where the share of rows that are missing, not finite, or outside the reference's range is over the
  reference's own share by more than ``maximum_outside`` and this excess is significant; or where PSI reaches
  ``psi_drift`` and the distribution differs significantly;
- ``warning`` where PSI reaches ``psi_warning`` and the distribution differs significantly;
- ``ok`` otherwise.

Significant: a p-value under ``alpha`` after the Benjamini-Hochberg correction. There are two families: one test of
the distribution a signal, and three tests of shares a signal. The distribution is tested with two-sample KS; classes
and categories have no order, so Pearson's chi-squared test takes its place, and ``ks`` and ``wasserstein`` are 0.
A window's level is that of its worst signal.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from agent.drift import statistics
from agent.drift.errors import LayoutError
from agent.drift.levels import LEVELS, SEVERITY
from agent.drift.soundness import required_rows
from agent.drift.tables import Table
from agent.drift.wording import Told, reason
from agent.protocol.drift import (
    DriftReference,
    MovedSignal,
    MovedStatistic,
    SignalCounts,
    SignalReference,
    SignalVerdict,
    Summary,
    Verdict,
    VerdictLevel,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

MOVED_MOST = 3
UNORDERED: frozenset[Summary] = frozenset({"argmax", "category"})
"""Summaries whose bins have no order."""

SHARES: tuple[MovedStatistic, ...] = ("missing", "not-finite", "outside")
"""The shares that are tested, in the order of the rows of the matrices below."""

CONSTANT_SHARE = 0.99
"""Rows that repeat the one before, of those with a value, from which a signal is called constant."""

_DIGITS = 4


class Judgement(Struct, frozen=True, kw_only=True):
    """A verdict, and the statistics behind it."""

    verdict: Verdict
    signals: dict[str, SignalVerdict]


def judge(reference: DriftReference, counts: Mapping[str, SignalCounts], rows: int) -> Judgement:
    """Compare a window, or windows merged over devices, with the reference.

    Raises:
        LayoutError: ``counts`` do not have the reference's signals and bins, or do not add up to ``rows``.
    """
    return Judge(reference).judgement(counts, rows)


class _Tests(Struct, frozen=True):
    """Statistics and corrected p-values of one window; arrays of shape (signals,) or (shares, signals)."""

    present: Floats
    judged: Flags
    psi: Floats
    js: Floats
    ks: Floats
    wasserstein: Floats
    p_values: Floats
    shares: Floats
    share_p_values: Floats
    """1 where no share grew by enough to matter."""
    excessive: Flags
    """Shares that are over the reference's by too much to matter and to be chance."""


class Judge:
    """:func:`judge` for one reference, whose side of the statistics is prepared once."""

    def __init__(self, reference: DriftReference) -> None:
        self._reference = reference
        self._policy = reference.policy
        self._names = [signal.name for signal in reference.signals]
        self._table = Table([len(signal.counts) for signal in reference.signals])
        self._counts = self._table.of(signal.counts for signal in reference.signals)
        self._present = self._counts.sum(axis=1)
        self._set_apart = _set_apart(reference.signals)
        self._usual_shares = self._set_apart / max(reference.rows, 1)
        self._positions = statistics.bin_positions([signal.edges for signal in reference.signals])
        self._unordered = np.array([signal.summary in UNORDERED for signal in reference.signals])
        self._tests: list[Literal["ks", "chi-squared"]] = [
            "chi-squared" if unordered else "ks" for unordered in self._unordered.tolist()
        ]
        self._needed = np.array([required_rows(signal, reference.policy) for signal in reference.signals])

    def judgement(self, counts: Mapping[str, SignalCounts], rows: int) -> Judgement:
        """See :func:`judge`."""
        check_counts(self._reference, counts, rows)
        window = [counts[name] for name in self._names]
        tests = self._test(window, rows)
        levels = self._levels(rows, tests)
        signals = self._signals(window, tests, levels)
        return Judgement(verdict=self._verdict(rows, tests, signals), signals=signals)

    def _test(self, window: Sequence[SignalCounts], rows: int) -> _Tests:
        matrix = self._table.of(signal.counts for signal in window)
        present = matrix.sum(axis=1)
        judged = np.minimum(present, self._present) >= self._needed
        pair = statistics.sides(matrix, self._counts)
        ks = statistics.kolmogorov_smirnov(pair)
        ordered = ~self._unordered
        found = _set_apart(window)
        shares = found / max(rows, 1)
        excessive = shares - self._usual_shares > self._policy.maximum_outside
        share_p_values = self._share_p(found, rows) if excessive.any() else np.ones_like(shares)
        return _Tests(
            present=present,
            judged=judged,
            psi=statistics.population_stability(pair),
            js=statistics.jensen_shannon(pair),
            ks=ks * ordered,
            wasserstein=statistics.wasserstein(pair, self._positions) * ordered,
            p_values=self._distribution_p(matrix, present, ks, judged),
            shares=shares,
            share_p_values=share_p_values,
            excessive=excessive & (share_p_values < self._policy.alpha),
        )

    def _share_p(self, found: Floats, rows: int) -> Floats:
        """Corrected p-values that shares grew; shape (shares, signals)."""
        p_values = statistics.excess_p_values(found, rows, self._set_apart, self._reference.rows)
        return statistics.benjamini_hochberg(p_values.ravel()).reshape(found.shape)

    def _distribution_p(self, matrix: Floats, present: Floats, ks: Floats, judged: Flags) -> Floats:
        """Corrected p-values over the judged signals; 1 for the others, which are not tested."""
        p_values = statistics.ks_p_values(ks, present, self._present)
        unordered = self._unordered
        if unordered.any():
            p_values[unordered] = statistics.chi_squared_p_values(matrix[unordered], self._counts[unordered])
        p_values[~judged] = 1.0
        p_values[judged] = statistics.benjamini_hochberg(p_values[judged])
        return p_values

    def _levels(self, rows: int, tests: _Tests) -> list[VerdictLevel]:
        significant = tests.judged & (tests.p_values < self._policy.alpha)
        drift = tests.excessive.any(axis=0) | (significant & (tests.psi >= self._policy.psi_drift))
        warning = significant & (tests.psi >= self._policy.psi_warning)
        levels = np.select([rows < self._needed, drift, warning, tests.judged], [0, 3, 2, 1], default=0)
        return [LEVELS[level] for level in levels.tolist()]

    def _signals(
        self, window: Sequence[SignalCounts], tests: _Tests, levels: list[VerdictLevel]
    ) -> dict[str, SignalVerdict]:
        repeated = np.array([signal.repeated for signal in window], dtype=np.float64)
        constant = (tests.present > 1) & (repeated >= CONSTANT_SHARE * (tests.present - 1))
        columns = zip(
            self._names,
            levels,
            tests.present.astype(np.int64).tolist(),
            tests.psi.tolist(),
            tests.js.tolist(),
            tests.ks.tolist(),
            tests.wasserstein.tolist(),
            tests.p_values.tolist(),
            self._tests,
            *tests.shares.tolist(),
            constant.tolist(),
            strict=True,
        )
        return {
            name: SignalVerdict(
                level=level,
                rows=rows,
                psi=psi,
                js=js,
                ks=ks,
                wasserstein=wasserstein,
                p_value=p_value,
                test=test,
                missing_rate=missing,
                not_finite_rate=not_finite,
                outside_rate=outside,
                constant=stuck,
            )
            for name, level, rows, psi, js, ks, wasserstein, p_value, test, missing, not_finite, outside, stuck
            in columns
        }  # fmt: skip

    def _verdict(self, rows: int, tests: _Tests, signals: dict[str, SignalVerdict]) -> Verdict:
        level = max((signal.level for signal in signals.values()), key=SEVERITY.__getitem__)
        judged = [i for i, one in enumerate(signals.values()) if one.level != "insufficient data"]
        every = list(signals.values())
        judged.sort(key=lambda i: (SEVERITY[every[i].level], every[i].psi), reverse=True)
        moved = tuple(self._moved(i, every[i], tests) for i in judged[:MOVED_MOST])
        told = Told(
            level=level,
            rows=rows,
            judged=len(judged),
            needed=int(self._needed.min()),
            usual=self._usual(judged[0], moved[0]) if moved else 0.0,
            constant=bool(moved) and every[judged[0]].constant,
        )
        return Verdict(
            level=level,
            rows=rows,
            correction="benjamini-hochberg",
            alpha=self._policy.alpha,
            judged=len(judged),
            moved_most=moved,
            reason=reason(told, self._reference, moved),
        )

    def _moved(self, index: int, signal: SignalVerdict, tests: _Tests) -> MovedSignal:
        """How a signal moved, by what made its level: the distribution before a share."""
        statistic: MovedStatistic = "psi"
        value, p_value = signal.psi, signal.p_value
        by_distribution = signal.psi >= self._policy.psi_drift and signal.p_value < self._policy.alpha
        if signal.level == "drift" and not by_distribution:
            share = int(np.argmax(tests.shares[:, index] * tests.excessive[:, index]))
            statistic = SHARES[share]
            value, p_value = float(tests.shares[share, index]), float(tests.share_p_values[share, index])
        return MovedSignal(
            signal=self._names[index],
            level=signal.level,
            rows=signal.rows,
            statistic=statistic,
            value=rounded(value),
            p_value=rounded(p_value),
        )

    def _usual(self, index: int, moved: MovedSignal) -> float:
        """The reference's own share of what moved."""
        if moved.statistic == "psi":
            return 0.0
        return float(self._usual_shares[SHARES.index(moved.statistic), index])


def _set_apart(signals: Sequence[SignalCounts | SignalReference]) -> Floats:
    """Rows that are missing, not finite, or outside: shape (shares, signals), in the order of :data:`SHARES`."""
    return np.array(
        [
            [signal.missing for signal in signals],
            [signal.not_finite for signal in signals],
            [signal.counts[0] + signal.counts[-1] for signal in signals],
        ],
        dtype=np.float64,
    )


def rounded(value: float) -> float:
    """Four significant digits: what a person reads, and what the wire carries."""
    return float(f"{value:.{_DIGITS}g}")


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
        total = sum(found.counts) + found.missing + found.not_finite + found.withheld
        if total != rows:
            raise LayoutError(f"window: signal {name} counts {total} rows, the window has {rows}")
