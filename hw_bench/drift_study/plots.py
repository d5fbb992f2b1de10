"""Three pictures of a study: false alarms, delays, and estimated against real accuracy."""

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hw_bench.drift_study.power import AFTER
from hw_bench.drift_study.report import Accuracy, Delay, FalseAlarms, Rate, StudyReport
from hw_bench.plot import COLOURS, DPI, GRID, INK, QUIET

STRENGTHS = ("#b5d3e7", "#6aa5cb", "#2a6f97", "#0d3049")
"""Weak to strong."""

_PATHS = re.compile(r' d="[^"]*"')

STEPS = 20
"""Of a curve of delays."""

SAID = (
    ("warning", "a window's verdict"),
    ("drift", "… drift itself"),
    ("alarm", "the alarm"),
    ("changed", "an abrupt change"),
)


def draw(report: StudyReport, folder: Path, ending: str = "svg") -> None:
    """Write ``drift-false-alarms``, ``drift-delay`` and ``drift-accuracy`` into ``folder``."""
    # Text stays text, and ids are not random: the same figures give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "edgeward", "font.family": "sans-serif"}):
        for name, figure in (
            ("false-alarms", _false_alarms(report)),
            ("delay", _delays(report)),
            ("accuracy", _accuracies(report)),
        ):
            path = folder / f"drift-{name}.{ending}"
            if ending != "svg":
                figure.savefig(path)
                continue
            written = StringIO()
            figure.savefig(written, format="svg", metadata={"Date": None})
            path.write_text(_PATHS.sub(_shorter, written.getvalue()), encoding="utf-8")


def _shorter(path: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point: more than a screen shows, at two thirds of the size."""
    return re.sub(r"(\d\.\d\d)\d+", r"\1", path[0])


def _figure(width: float, height: float, title: str, below: str) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    figure.supxlabel(below, x=0.01, ha="left", fontsize=8, color=QUIET)
    return figure


def _frame(axes: Axes, title: str, pad: float = 6) -> None:
    axes.set_title(title, loc="left", fontsize=9.5, color=INK, pad=pad)
    axes.grid(color=GRID, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)


# --- False alarms ------------------------------------------------------------------------------------------------


def _false_alarms(report: StudyReport) -> Figure:
    entries = [entry for entry in report.false_alarms if entry.stay == 1]
    windows = sum(entry.windows for entry in entries)
    figure = _figure(
        9.5,
        3.4,
        "Nothing changed: how often it is said all the same",
        f"{windows:,} windows of {report.window_rows} rows; bars are 95 % intervals over references; lines are the stated levels",
    )
    panels = figure.subplots(1, len(SAID), sharey=True)
    for axes, (name, title) in zip(panels, SAID, strict=True):
        _frame(axes, title)
        level = report.alarm_level if name == "alarm" else report.level
        axes.axvline(level * 100, color=COLOURS[1], linewidth=1.4, linestyle=(0, (4, 2)))
        for row, entry in enumerate(entries):
            _dot(axes, row, getattr(entry, name))
        highest = max(100 * _rates(entries, name), 150 * report.level)
        axes.set_xlim(-0.03 * highest, highest * 1.25)
        axes.set_xlabel("% of windows", fontsize=8, color=QUIET)
        axes.locator_params(axis="x", nbins=4)
    names = [f"{entry.subject}\n{entry.signals} signals" for entry in entries]
    panels[0].set_yticks(range(len(names)), names, fontsize=9, color=INK)
    panels[0].set_ylim(len(names) - 0.5, -0.6)
    return figure


def _rates(entries: Sequence[FalseAlarms], name: str) -> float:
    return max(float(getattr(entry, name).high) for entry in entries)


def _dot(axes: Axes, row: int, rate: Rate) -> None:
    colour = COLOURS[0]
    axes.plot(
        [100 * rate.low, 100 * rate.high],
        [row, row],
        color=colour,
        linewidth=4,
        alpha=0.3,
        solid_capstyle="round",
    )
    axes.scatter(100 * rate.rate, row, s=36, color=colour, zorder=4)
    axes.annotate(
        f"{100 * rate.rate:.2f}",
        (100 * rate.rate, row),
        (0, 7),
        textcoords="offset points",
        fontsize=8,
        color=INK,
    )


# --- Delays ------------------------------------------------------------------------------------------------------


def _delays(report: StudyReport) -> Figure:
    subjects = list(dict.fromkeys(entry.subject for entry in report.delays))
    kinds = {
        subject: list(dict.fromkeys(entry.kind for entry in report.delays if entry.subject == subject))
        for subject in subjects
    }
    columns = max(map(len, kinds.values()))
    figure = _figure(
        2.9 * columns,
        2.8 * len(subjects) + 1.0,
        "Something changed: how many rows pass until it is said",
        f"Full lines: the alarm (after {report.persistence} windows in a row). Dotted: the first window that says warning or "
        f"drift. A window has {report.window_rows} rows; the change comes anywhere in one.",
    )
    grid = figure.subplots(len(subjects), columns, sharey=True, squeeze=False)
    for row, subject in enumerate(subjects):
        for column in range(columns):
            axes = grid[row][column]
            if column >= len(kinds[subject]):
                axes.set_axis_off()
                continue
            kind = kinds[subject][column]
            _curves(axes, [e for e in report.delays if (e.subject, e.kind) == (subject, kind)], report)
            _frame(axes, f"{subject}: {kind}", pad=30)
        grid[row][0].set_ylabel("% of streams", fontsize=8, color=QUIET)
    return figure


def _curves(axes: Axes, entries: Sequence[Delay], report: StudyReport) -> None:
    end = AFTER * report.window_rows
    for entry, colour in zip(entries, STRENGTHS, strict=True):
        for values, style, width in ((entry.verdict, (0, (1, 1.6)), 1.3), (entry.alarm, "solid", 2.0)):
            x, y = _steps(values, end)
            axes.step(x, y, where="post", color=colour, linestyle=style, linewidth=width)
    handles = [
        Line2D([], [], color=colour, linewidth=2, label=entry.strength)
        for entry, colour in zip(entries, STRENGTHS, strict=True)
    ]
    axes.legend(
        handles=handles,
        fontsize=7,
        ncols=2,
        loc="lower left",
        bbox_to_anchor=(-0.03, 0.99),
        handlelength=1.2,
        columnspacing=1.0,
        labelspacing=0.2,
        labelcolor=INK,
        frameon=False,
    )
    axes.set_xlim(0, end)
    axes.set_ylim(-4, 104)
    axes.set_xticks(range(0, end + 1, 4 * report.window_rows))
    axes.set_xlabel("rows since the change", fontsize=8, color=QUIET)


def _steps(values: Sequence[int | None], end: int) -> tuple[list[float], list[float]]:
    """Where the curve reaches each twentieth of the streams: more points are a larger file and no more to see."""
    known = sorted(value for value in values if value is not None)
    marks = [round(share * len(values) / STEPS) for share in range(1, STEPS + 1)]
    marks = [*(mark for mark in marks if 0 < mark < len(known)), len(known)] if known else []
    shares = [100 * mark / len(values) for mark in marks]
    return [0.0, *(float(known[mark - 1]) for mark in marks), float(end)], [
        0.0,
        *shares,
        shares[-1] if shares else 0.0,
    ]


# --- Accuracy ----------------------------------------------------------------------------------------------------


def _accuracies(report: StudyReport) -> Figure:
    subjects = list(dict.fromkeys(entry.subject for entry in report.accuracy))
    figure = _figure(
        3.7 * len(subjects),
        4.6,
        "Accuracy without labels, against the labels",
        "Each mark is the mean over windows of one change at one strength, with the mean interval. Empty: more than half of "
        "the windows got no estimate;\nthe table says why. On the line the estimate is right.",
    )
    panels = figure.subplots(1, len(subjects), squeeze=False)[0]
    for axes, subject in zip(panels, subjects, strict=True):
        entries = [entry for entry in report.accuracy if entry.subject == subject]
        kinds = list(dict.fromkeys(entry.kind for entry in entries))
        shown = [entry for entry in entries if entry.windows]
        lowest = min(
            (min(entry.truth, entry.truth + entry.bias - entry.reach) for entry in shown), default=0.5
        )
        axes.plot([lowest, 1], [lowest, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
        for entry in shown:
            _mark(axes, entry, COLOURS[kinds.index(entry.kind) % len(COLOURS)])
        handles = [
            Line2D(
                [],
                [],
                color=COLOURS[number % len(COLOURS)],
                marker="o",
                linestyle="none",
                markersize=5,
                label=kind,
            )
            for number, kind in enumerate(kinds)
        ]
        axes.legend(handles=handles, fontsize=7.5, frameon=False, loc="upper left", labelcolor=INK)
        _frame(axes, subject)
        axes.set_xlabel("real accuracy", fontsize=8, color=QUIET)
        axes.set_xlim(lowest - 0.03, 1.02)
        axes.set_ylim(lowest - 0.03, 1.03)
    panels[0].set_ylabel("estimated accuracy", fontsize=8, color=QUIET)
    return figure


def _mark(axes: Axes, entry: Accuracy, colour: str) -> None:
    middle = entry.truth + entry.bias
    low, high = middle - entry.reach, min(1.0, middle + entry.reach)
    axes.plot([entry.truth, entry.truth], [low, high], color=colour, linewidth=2.5, alpha=0.3, zorder=2)
    face = "white" if entry.off > 0.5 else colour  # noqa: PLR2004 - half of the windows
    axes.scatter(entry.truth, middle, s=34, facecolor=face, edgecolor=colour, linewidth=1.4, zorder=3)
