"""``edgeward drift``: what moved, since when, how far, and what to do; pictures of each signal then and now."""

from collections.abc import Sequence

from msgspec import Struct
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from agent.cli import drift_words
from agent.cli.bars import Style, bin_width, bullet, histogram, timeline
from agent.cli.printing import STYLES, plain
from agent.protocol.control import DriftReport, DriftResult, DriftSignal
from agent.protocol.drift_words import bin_names, percent, sentence

SHOWN = 3
"""Signals, of those that moved most."""
NAMED = 6
"""Of the others, by their names."""
LABEL = 10
"""Columns before a picture."""
TESTS = {"ks": "KS", "chi-squared": "chi-squared"}
PEAK = 16
"""Columns behind a picture, for how high it is."""
LEAST_APART = 0.0005
"""Share of the rows from which what lies outside the bins has a column."""
SMALLEST_P = 1e-9


def show_drift(result: DriftResult, console: Console, *, signal: str | None, style: Style) -> None:
    """A part a model; ``signal``: this one in detail, bin by bin, in place of those that moved most."""
    if not result.reports:
        console.print(plain("no drift window has closed yet: a window closes by its rows or by its age"))
        return
    for place, report in enumerate(result.reports):
        if place:
            console.print()
        _head(report, console)
        _timeline(report, console, style)
        for each in report.signals[: SHOWN if signal is None else None]:
            if signal is None:
                _brief(each, report, console, style)
            elif each.reference.name == signal:
                _detail(each, report, console, style)
        _tail(report, console, signal, style)


def _head(report: DriftReport, console: Console) -> None:
    level, since = drift_words.state(report)
    window = report.window
    console.print(
        Text.assemble(
            plain(f"{report.model} release {window.release}", "bold"),
            ": ",
            plain(level, STYLES.get(level, "")),
            plain(f" {since}".rstrip()),
        )
    )
    for said in (window.verdict.reason, *drift_words.notes(window)):
        _say(said, console)
    if report.problem is not None:
        _say(f"its signals can't be drawn: {report.problem}", console, STYLES["warning"])


def _say(said: str, console: Console, style: str = "") -> None:
    """A sentence, set in from the left on every line it takes."""
    console.print(Padding(plain(said, style), (0, 0, 0, 2)))


def _timeline(report: DriftReport, console: Console, style: Style) -> None:
    if not report.history:
        return
    line = timeline(report.history, max(10, console.width - LABEL - 1))
    marks = Text("verdicts".ljust(LABEL))
    for level in line.marks:
        marks.append(style.marks[level], STYLES.get(level, ""))
    console.print()
    console.print(marks)
    if any(line.cut):
        below = "".join(style.cut if cut else " " for cut in line.cut)
        console.print(plain(" " * LABEL + below.rstrip() + "  cut off", "dim"))
    first, last = drift_words.minute(report.history[0].closed), drift_words.minute(report.history[-1].closed)
    each = "window" if line.windows == 1 else f"{line.windows} windows"
    key = "  ".join(f"{style.marks[level]} {level}" for level in style.marks)
    console.print(plain(f"{' ' * LABEL}{first} to {last}, a mark a {each}", "dim"))
    console.print(plain(f"{' ' * LABEL}{key}", "dim"))


def _title(signal: DriftSignal, report: DriftReport, console: Console) -> None:
    verdict = signal.verdict
    limit = "" if report.policy is None else f" (drift from {report.policy.psi_drift:g})"
    p_value = f"{verdict.p_value:.2g}" if verdict.p_value >= SMALLEST_P else f"under {SMALLEST_P:.0e}"
    console.print()
    console.print(
        Text.assemble(
            plain(signal.reference.name, "bold"),
            "  ",
            plain(verdict.level, STYLES.get(verdict.level, "")),
            plain(f"  PSI {verdict.psi:.3g}{limit}, {TESTS[verdict.test]} p {p_value}, n {verdict.rows:,}"),
        )
    )
    said = sentence(signal.reference, signal.counts, verdict, report.reference_rows or 0)
    _say(said, console)


def _shares(counts: Sequence[int], rows: int) -> list[float]:
    return [count / max(1, rows) for count in counts]


def _both(signal: DriftSignal, report: DriftReport) -> tuple[list[float], list[float]]:
    """Shares of all rows in each count, then and now."""
    now_rows = sum(signal.counts.counts) + signal.counts.missing + signal.counts.not_finite
    then = _shares(signal.reference.counts, report.reference_rows or 0)
    return then, _shares(signal.counts.counts, now_rows)


class _Column(Struct, frozen=True):
    """One column of both histograms; a gap has neither share nor name."""

    then: float = 0.0
    now: float = 0.0
    name: str = ""


def _columns(signal: DriftSignal, report: DriftReport) -> tuple[list[_Column], int, int]:
    """Under, the bins, over, missing, not a number; the outer ones where there is something. And where bins begin and end."""
    then, now = _both(signal, report)
    reference, counts = signal.reference, signal.counts
    rows_then = max(1, report.reference_rows or 0)
    rows_now = max(1, sum(counts.counts) + counts.missing + counts.not_finite)
    before = [_Column(then[0], now[0], "under")]
    after = [
        _Column(then[-1], now[-1], "over" if reference.categories is None else "other"),
        _Column(reference.missing / rows_then, counts.missing / rows_now, "missing"),
        _Column(reference.not_finite / rows_then, counts.not_finite / rows_now, "NaN"),
    ]
    left = [each for each in before if max(each.then, each.now) >= LEAST_APART]
    right = [each for each in after if max(each.then, each.now) >= LEAST_APART]
    bins = [_Column(*pair) for pair in zip(then[1:-1], now[1:-1], strict=True)]
    found = [*left, *([_Column()] if left else []), *bins]
    first, last = len(found) - len(bins), len(found)
    for each in right:
        found += [_Column(), each]
    return found, first, last


def _brief(signal: DriftSignal, report: DriftReport, console: Console, style: Style) -> None:
    """Two histograms, one over the other, to the same scale."""
    _title(signal, report, console)
    columns, first, last = _columns(signal, report)
    top = max((max(each.then, each.now) for each in columns), default=0.0)
    width = bin_width(len(columns), console.width - LABEL - PEAK)
    whole = width * len(columns)
    for name, shares in (("then", [each.then for each in columns]), ("now", [each.now for each in columns])):
        lines = histogram(shares, top, width, style)
        for place, line in enumerate(lines):
            at_the_foot = place == len(lines) - 1
            peak = f" up to {percent(max(shares, default=0.0))}" if at_the_foot else ""
            label = name if at_the_foot else ""
            console.print(plain(f"{label:<{LABEL}}{line:<{whole}}{peak}"))
    axis = _axis(signal, width * first, width * (last - first))
    console.print(plain(f"{' ' * LABEL}{_named(columns, width, axis)}", "dim"))


def _axis(signal: DriftSignal, start: int, width: int) -> str:
    """The ends of the bins, which begin at ``start`` and are ``width`` wide."""
    names = bin_names(signal.reference)[1:-1]
    if signal.reference.summary in ("argmax", "category"):
        ends = (names[0], names[-1])
    else:
        ends = (f"{signal.reference.edges[0]:.3g}", f"{signal.reference.edges[-1]:.3g}")
    return f"{' ' * start}{ends[0]}{ends[1]:>{max(1, width - len(ends[0]))}}"


def _named(columns: Sequence[_Column], width: int, axis: str) -> str:
    """``axis`` with the names of the columns beside the bins, cut to the room they have."""
    line = list(axis.ljust(width * len(columns)))
    for place, each in enumerate(columns):
        if each.name:
            room = 2 * width - 1  # its own, and the gap's beside it
            shown = each.name[:room]
            line[place * width : place * width + len(shown)] = shown
    return "".join(line).rstrip()


def _detail(signal: DriftSignal, report: DriftReport, console: Console, style: Style) -> None:
    """A line a bin: shares then and now, a bar of now with a tick at then."""
    _title(signal, report, console)
    verdict = signal.verdict
    _say(
        f"JS {verdict.js:.3g}, KS {verdict.ks:.3g}, Wasserstein {verdict.wasserstein:.3g} sd; "
        f"missing {percent(verdict.missing_rate)}, not a number {percent(verdict.not_finite_rate)}, "
        f"outside {percent(verdict.outside_rate)}",
        console,
    )
    console.print()
    names, (then, now) = bin_names(signal.reference), _both(signal, report)
    top = max(*then, *now, 0.0)
    wide = max(len(name) for name in names)
    room = max(10, console.width - wide - 30)
    console.print(plain(f"  {'':<{wide}}  {'THEN':>11} {'NOW':>11}", "bold"))
    for name, before, after in zip(names, then, now, strict=True):
        bar = bullet(after, before, top, room, style)
        console.print(plain(f"  {name:<{wide}}  {percent(before):>11} {percent(after):>11}  {bar}"))
    console.print(plain(f"  {style.bar} now, {style.tick} then", "dim"))


def _tail(report: DriftReport, console: Console, signal: str | None, style: Style) -> None:
    console.print()
    more = len(report.signals) - SHOWN
    if signal is None and more > 0:
        names = ", ".join(each.reference.name for each in report.signals[SHOWN : SHOWN + NAMED])
        rest = f" and {more - NAMED} more" if more > NAMED else ""
        console.print(plain(f"moved less: {names}{rest}; one in detail: --signal NAME"))
    for line in drift_words.accuracy(report):
        console.print(plain(f"accuracy: {line}"))
    if report.slices:
        wide = max(len(each.slice or "") for each in report.slices)
        for each in report.slices:
            name, level, rest = drift_words.slice_line(each)
            console.print(
                Text.assemble(
                    plain(f"{name:<{wide}}  "), plain(level, STYLES.get(level, "")), plain(f"  {rest}")
                )
            )
    for step in drift_words.next_steps(report):
        console.print(plain(f"{style.arrow} {step}"))
