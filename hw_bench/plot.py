"""One picture of a bench report: latency, throughput and memory of every variant, side by side."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agent.protocol.evidence import BenchReport, ScenarioResult

INK, QUIET, GRID = "#1f2933", "#66788a", "#e4e9ee"
COLOURS = ("#2a6f97", "#c2661f", "#4b8b57", "#8a5a9e", "#b23a48", "#5c6b73")
BAR = 0.46
DPI = 160


def draw(report: BenchReport, path: Path) -> None:
    """Write the picture as PNG (or another format by the name's ending)."""
    variants = list(report.artifacts)
    figure = Figure(
        figsize=(11, 2.7 + 0.62 * len(variants)), dpi=DPI, facecolor="white", layout="constrained"
    )
    figure.get_layout_engine().set(rect=(0.01, 0.08, 0.98, 0.74 + 0.015 * len(variants)), wspace=0.06)  # type: ignore[union-attr,call-arg]  # constrained, as asked for above
    latency, throughput, memory = figure.subplots(1, 3, sharey=True, width_ratios=(1.5, 1, 1))
    _latency(latency, report, variants)
    _throughput(throughput, report, variants)
    _memory(memory, report, variants)
    latency.set_yticks(range(len(variants)), variants, fontsize=11, color=INK, fontweight="bold")
    latency.set_ylim(len(variants) - 0.4, -0.75)
    figure.text(
        0.015,
        0.95,
        f"{report.model} on {report.hardware_class}",
        fontsize=15,
        fontweight="bold",
        color=INK,
        va="top",
    )
    packages = ", ".join(f"{name} {version}" for name, version in sorted(report.packages.items()))
    figure.text(0.015, 0.025, f"{report.machine}; {packages}", fontsize=7.5, color=QUIET)
    figure.savefig(path)


def _scenario(report: BenchReport, variant: str, scenario: str) -> ScenarioResult:
    return next(item for item in report.scenarios if (item.variant, item.scenario) == (variant, scenario))


def _latency(axes: Axes, report: BenchReport, variants: list[str]) -> None:
    _frame(axes, "SingleStream latency of one row", "microseconds")
    highest = 0.0
    for row, name in enumerate(variants):
        result, colour = _scenario(report, name, "single-stream"), _colour(row)
        marks = (result.p50_us, result.p90_us, result.p95_us, result.p99_us)
        highest = max(highest, *marks)
        axes.plot([0, marks[0]], [row, row], color=colour, linewidth=1.2, alpha=0.35, zorder=1)
        axes.plot(
            [marks[0], marks[-1]],
            [row, row],
            color=colour,
            linewidth=6,
            alpha=0.3,
            solid_capstyle="round",
            zorder=2,
        )
        axes.scatter(marks[1:3], [row, row], s=26, color="white", edgecolor=colour, linewidth=1.4, zorder=3)
        axes.scatter(marks[3], row, s=64, marker="|", color=colour, linewidth=2.4, zorder=3)
        axes.scatter(marks[0], row, s=80, color=colour, zorder=4)
        words = f"p50 {_number(marks[0])}    p90 {_number(marks[1])}    p99 {_number(marks[3])}"
        axes.annotate(words, (0, row), (2, 11), textcoords="offset points", fontsize=8.5, color=INK)
    axes.set_xlim(0, highest * 1.08)


def _throughput(axes: Axes, report: BenchReport, variants: list[str]) -> None:
    results = [_scenario(report, name, "offline") for name in variants]
    _frame(axes, f"Offline, {results[0].rows_per_query} rows a query", "rows a second")
    for row, result in enumerate(results):
        axes.barh(row, result.rows_per_second, height=BAR, color=_colour(row), zorder=2)
        _label(axes, result.rows_per_second, row, _number(result.rows_per_second))
    axes.set_xlim(0, max(result.rows_per_second for result in results) * 1.28)
    axes.xaxis.set_major_formatter(lambda value, _: _number(value))


def _memory(axes: Axes, report: BenchReport, variants: list[str]) -> None:
    _frame(axes, "Memory: loaded → peak", "MiB (PSS)")
    entries = {entry.variant: entry for entry in report.memory}
    for row, name in enumerate(variants):
        entry = entries[name]
        axes.barh(row, entry.peak_pss_mib, height=BAR, color=_colour(row), alpha=0.3, zorder=2)
        axes.barh(row, entry.pss_mib, height=BAR, color=_colour(row), zorder=3)
        _label(axes, entry.peak_pss_mib, row, f"{entry.pss_mib:.0f} → {entry.peak_pss_mib:.0f}")
    axes.set_xlim(0, max(entry.peak_pss_mib for entry in report.memory) * 1.28)


def _frame(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8)
    axes.set_xlabel(unit, fontsize=8.5, color=QUIET)
    axes.grid(axis="x", color=GRID, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=QUIET)
    axes.locator_params(axis="x", nbins=5)


def _label(axes: Axes, value: float, row: int, words: str) -> None:
    axes.annotate(words, (value, row), (5, 0), textcoords="offset points", va="center", fontsize=9, color=INK)


def _colour(row: int) -> str:
    return COLOURS[row % len(COLOURS)]


def _number(value: float) -> str:
    """Three figures with a unit prefix, for instance ``1.84M``."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"
