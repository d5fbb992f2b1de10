"""One monitored signal as a card: the picture, a sentence for people, the statistics for those who want them."""

from collections.abc import Mapping

from markupsafe import Markup
from msgspec import Struct

from agent.protocol.drift import DriftReference, SignalCounts, SignalReference, SignalVerdict
from agent.protocol.drift_words import percent, sentence
from cloud_hub.dashboard import words
from cloud_hub.dashboard.drawing.bars import columns, comparison

SMALLEST_P = 1e-9
"""Below it a p-value says nothing more: nobody knows the tails of a test so well."""
TESTS = {"ks": "KS", "chi-squared": "χ²"}


class SignalChart(Struct, frozen=True, kw_only=True):
    name: str
    who: str
    """Whose rows these are; "" where the page has said it."""
    level: str
    svg: Markup
    sentence: str
    figures: tuple[tuple[str, str], ...]


def charts(
    reference: DriftReference,
    counts: Mapping[str, SignalCounts],
    verdicts: Mapping[str, SignalVerdict],
    who: str = "",
) -> tuple[SignalChart, ...]:
    """A card a signal, that which moved most first. Signals whose bins are not the reference's are left out."""
    known = [each for each in reference.signals if _usable(each, counts, verdicts)]
    known.sort(key=lambda each: moved_most(verdicts[each.name]))
    return tuple(_chart(each, counts[each.name], verdicts[each.name], reference.rows, who) for each in known)


def moved_most(verdict: SignalVerdict) -> tuple[int, float, float]:
    """To sort by: the worst verdict, then the farthest."""
    apart = max(verdict.missing_rate, verdict.not_finite_rate, verdict.outside_rate)
    return (words.worst_first(verdict.level), -verdict.psi, -apart)


def _usable(
    signal: SignalReference, counts: Mapping[str, SignalCounts], verdicts: Mapping[str, SignalVerdict]
) -> bool:
    """A device may send anything."""
    found = counts.get(signal.name)
    return signal.name in verdicts and found is not None and len(found.counts) == len(signal.counts)


def _chart(
    signal: SignalReference, counts: SignalCounts, verdict: SignalVerdict, rows_then: int, who: str
) -> SignalChart:
    shown = columns(signal, counts, rows_then)
    said = sentence(signal, counts, verdict, rows_then)
    return SignalChart(
        name=signal.name,
        who=who,
        level=verdict.level,
        svg=comparison(signal, shown, f"{signal.name}: {said}"),
        sentence=said.replace(" %", "\u00a0%"),
        figures=_figures(counts, verdict),
    )


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= SMALLEST_P else "under 1e-9"


def _figures(counts: SignalCounts, verdict: SignalVerdict) -> tuple[tuple[str, str], ...]:
    ordered = verdict.test == "ks"
    figures = [
        ("PSI", f"{verdict.psi:.3g}"),
        ("JS", f"{verdict.js:.3g}"),
        *([("KS", f"{verdict.ks:.3g}"), ("Wasserstein", f"{verdict.wasserstein:.3g} sd")] if ordered else []),
        (f"p ({TESTS[verdict.test]})", _p(verdict.p_value)),
        ("n", words.whole(verdict.rows)),
    ]
    rows = sum(counts.counts) + counts.missing + counts.not_finite
    if counts.repeated and rows:
        figures.append(("repeated", percent(counts.repeated / rows)))
    return tuple(figures)
