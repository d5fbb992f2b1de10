"""The tables of a study, for docs/drift-power.md and docs/accuracy.md."""

import math
from collections.abc import Iterator

from hw_bench.drift_study.report import Delay, Rate, StudyReport, median


def power_tables(report: StudyReport) -> str:
    """False alarms and delays, as Markdown."""
    return "\n".join((*_head(report), *_false_alarms(report), *_delays(report))) + "\n"


def accuracy_table(report: StudyReport) -> str:
    """Estimated against real accuracy, as Markdown."""
    return "\n".join((*_head(report), *_accuracy(report))) + "\n"


def _head(report: StudyReport) -> Iterator[str]:
    packages = ", ".join(f"{name} {version}" for name, version in report.packages.items())
    yield f"Made {report.made} by `{report.command}` in {report.seconds:.0f} s on {report.machine}; {packages}."
    yield ""
    for subject, what in report.what.items():
        yield f"- **{subject}**: {what}."
    yield ""


def _false_alarms(report: StudyReport) -> Iterator[str]:
    yield "| stream | each row comes | signals | references | windows | warning or drift | drift | alarm | abrupt change |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for entry in report.false_alarms:
        cells = (
            entry.subject,
            "once" if entry.stay == 1 else f"{entry.stay} times in a row",
            str(entry.signals),
            str(entry.references),
            f"{entry.windows:,}",
            *(_rate(rate) for rate in (entry.warning, entry.drift, entry.alarm, entry.changed)),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _delays(report: StudyReport) -> Iterator[str]:
    yield (
        "| stream | change | strength | windows that say it | first verdict: median rows | alarm: 10 % / median / 90 % of streams, "
        "rows | median windows | alarm in time | abrupt change: median rows |"
    )
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
    for entry in report.delays:
        yield f"| {' | '.join(_delay_cells(entry, report.window_rows))} |"
    yield ""


def _delay_cells(entry: Delay, window_rows: int) -> tuple[str, ...]:
    middle = median(entry.alarm)
    spread = " / ".join(_rows(_quantile(entry.alarm, share)) for share in (0.1, 0.5, 0.9))
    seen = sum(value is not None for value in entry.alarm) / max(1, len(entry.alarm))
    return (
        entry.subject,
        entry.kind,
        entry.strength,
        f"{entry.drift_windows:.0%}",
        _rows(median(entry.verdict)),
        spread,
        "never" if math.isinf(middle) else f"{middle / window_rows:.1f}",
        f"{seen:.0%}",
        _rows(median(entry.changed)),
    )


def _quantile(values: tuple[int | None, ...], share: float) -> float:
    ordered = sorted(math.inf if value is None else value for value in values)
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if ordered else math.inf


def _rows(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:,.0f}"


def _accuracy(report: StudyReport) -> Iterator[str]:
    yield (
        "| stream | change | strength | real accuracy | estimate minus real | its size, mean | interval ± | real one in it | no "
        "estimate, mostly because |"
    )
    yield "|---|---|---|---:|---:|---:|---:|---:|---|"
    for entry in report.accuracy:
        off = f"{entry.off:.0%}" + (f": {entry.reason}" if entry.reason else "")
        known = entry.windows > 0
        cells = (
            entry.subject,
            entry.kind,
            entry.strength,
            f"{entry.truth:.3f}",
            f"{entry.bias:+.3f}" if known else "-",
            f"{entry.error:.3f}" if known else "-",
            f"{entry.reach:.3f}" if known else "-",
            _rate(entry.coverage) if known else "-",
            off,
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _rate(rate: Rate) -> str:
    return f"{rate.rate:.2%} ({rate.low:.2%}-{rate.high:.2%})"
