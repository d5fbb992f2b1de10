"""Drift in words, the same for the technician and for the fleet."""

import itertools

from agent.protocol.drift import SignalCounts, SignalReference, SignalVerdict

_MILLION = 1_000_000
_LIKELY = 0.5
_SELDOM = 20
_NO_SHIFT = 0.02
"""Shift of the middle, in ranges of the reference, that nobody calls lower or higher."""
_NOTEWORTHY = 0.005
"""Change of a share outside the bins that is told."""


def percent(share: float) -> str:
    """A share that is not nothing is never shown as nothing, and one that is not everything never as everything."""
    if 0 < share < 0.001:  # noqa: PLR2004 - what one decimal place can't show
        return "under 0.1 %"
    if 0.999 < share < 1:  # noqa: PLR2004 - as above
        return "over 99.9 %"
    return f"{share * 100:.1f} %".replace(".0 %", " %")


def chance(p_value: float) -> str:
    """A p-value for somebody who never heard of one."""
    if p_value >= _LIKELY:
        return "no farther than chance takes them"
    times = 1 / p_value if p_value > 0 else float("inf")
    if times >= _MILLION:
        return "chance does this less than once in a million windows"
    if times < _SELDOM:
        return f"chance alone does this once in {times:.0f} windows"
    digits = len(str(int(times))) - 2
    return f"chance does this once in {round(times, -max(0, digits)):,.0f} windows"


def moved(reference: SignalReference, counts: SignalCounts) -> str:
    """Where the rows went, by the middle of their bins; of classes, which changed most."""
    if reference.summary in ("argmax", "category"):
        return _class_most(reference, counts)
    then, now = _middle(reference.counts), _middle(counts.counts)
    if then is None or now is None:
        return "no row has a value"
    shift = (now - then) / max(1, len(reference.counts) - 2)
    if abs(shift) < _NO_SHIFT:
        return "about where they lay"
    return "lower than then" if shift < 0 else "higher than then"


def _middle(counts: tuple[int, ...]) -> float | None:
    rows = sum(counts)
    return sum(place * count for place, count in enumerate(counts)) / rows if rows else None


def _class_most(reference: SignalReference, counts: SignalCounts) -> str:
    rows_then, rows_now = sum(reference.counts), sum(counts.counts)
    if not rows_then or not rows_now:
        return "no row has a value"
    growth = [
        now / rows_now - then / rows_then for now, then in zip(counts.counts, reference.counts, strict=True)
    ]
    place = max(range(len(growth)), key=lambda each: abs(growth[each]))
    if abs(growth[place]) < _NO_SHIFT:
        return "in about the shares they had"
    then, now = reference.counts[place] / rows_then, counts.counts[place] / rows_now
    return f"{bin_names(reference)[place]} changed most, {percent(then)} then, {percent(now)} now"


def bin_names(reference: SignalReference) -> list[str]:
    """What each of its counts is called: under, the bins, over."""
    if reference.categories is not None:
        return ["under", *(str(each) for each in reference.categories), "other"]
    if reference.summary == "argmax":
        return ["under", *(str(each) for each in range(len(reference.counts) - 2)), "over"]
    edges = reference.edges
    bins = [f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(edges)]
    return ["under", *bins, "over"]


def apart(reference: SignalReference, counts: SignalCounts, rows_then: int) -> str:
    """What lies outside the bins, where that has changed: ``21.3 % not a number (0 % then)``; "" where it has not."""
    rows_now = sum(counts.counts) + counts.missing + counts.not_finite
    over = "over the range" if reference.categories is None else "of other kinds"
    shares = (
        ("under the range", reference.counts[0], counts.counts[0]),
        (over, reference.counts[-1], counts.counts[-1]),
        ("missing", reference.missing, counts.missing),
        ("not a number", reference.not_finite, counts.not_finite),
    )
    told = [(name, then / max(1, rows_then), now / max(1, rows_now)) for name, then, now in shares]
    return ", ".join(
        f"{percent(now)} {name} ({percent(then)} then)"
        for name, then, now in told
        if abs(now - then) >= _NOTEWORTHY
    )


def sentence(reference: SignalReference, counts: SignalCounts, verdict: SignalVerdict, rows_then: int) -> str:
    """One signal, for people."""
    where, beside = moved(reference, counts), apart(reference, counts, rows_then)
    if verdict.level == "insufficient data":
        return f"{verdict.rows:,} rows are too few to say."
    worst = max(verdict.missing_rate, verdict.not_finite_rate, verdict.outside_rate)
    if beside and verdict.level == "drift" and worst > verdict.psi:
        return f"What is wrong: {beside}. The others lie {where}."
    stuck = " It hardly ever changes: look whether the sensor is stuck." if verdict.constant else ""
    besides = f" Besides, {beside}." if beside else ""
    return (
        f"{where[0].upper()}{where[1:]}; {chance(verdict.p_value)} ({verdict.rows:,} rows).{besides}{stuck}"
    )
