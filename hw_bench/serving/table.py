"""A report as tables: for a terminal, and as Markdown for the docs."""

from collections.abc import Iterable, Sequence

from msgspec import Struct
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hw_bench.serving.pairs import Spread
from hw_bench.serving.report import ServingReport
from hw_bench.serving.targets import Figure, Outcome

_KEPT = {True: "kept", False: "missed", None: ""}
_STYLES = {"kept": "green", "missed": "bold red"}


class Sheet(Struct, frozen=True, kw_only=True):
    """One table."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def is_text(self, column: int) -> bool:
        """Else it holds numbers, flush right."""
        return column == 0 or self.head[column] in {"", "note"}


def sheets(report: ServingReport) -> tuple[Sheet, ...]:
    """The report's tables: what was measured, the ratios, the other figures."""
    return (
        Sheet(
            title="Requests (medians over the rounds)",
            head=("server", "clients", "p50 µs", "p95 µs", "p99 µs", "requests/s"),
            rows=tuple(
                (
                    entry.route,
                    str(entry.clients),
                    *(f"{value.median:,.0f}" for value in (entry.p50_us, entry.p95_us, entry.p99_us)),
                    f"{entry.requests_per_second.median:,.0f}",
                )
                for entry in report.measured
            ),
        ),
        Sheet(
            title="Ratios (median of the rounds' ratios, quartiles)",
            head=("what", "clients", "ratio", "quartiles", "target", ""),
            rows=tuple(_ratio(outcome) for outcome in report.outcomes),
        ),
        Sheet(
            title="Memory, start",
            head=("what", "median", "quartiles", "target", "", "note"),
            rows=tuple(_figure(figure) for figure in report.figures),
        ),
    )


def _ratio(outcome: Outcome) -> tuple[str, ...]:
    target = outcome.target
    quantity = "p50" if target.quantity == "p50_us" else "requests/s"
    sign = "≤" if target.at_most else "≥"
    return (
        f"{quantity}: {target.of} / {target.to}",
        str(target.clients),
        f"{outcome.ratio.median:.2f}",
        _quartiles(outcome.ratio, 2),
        "" if target.bound is None else f"{sign} {target.bound:.2f}",
        _KEPT[outcome.kept],
    )


def _figure(figure: Figure) -> tuple[str, ...]:
    return (
        figure.name,
        f"{figure.value.median:.1f} {figure.unit}",
        _quartiles(figure.value, 1) if figure.value.rounds > 1 else "",
        "" if figure.at_most is None else f"≤ {figure.at_most:g}",
        _KEPT[figure.kept],
        figure.note,
    )


def _quartiles(value: Spread, digits: int) -> str:
    return f"{value.low:.{digits}f}-{value.high:.{digits}f}"


def show(report: ServingReport, console: Console) -> None:
    """Print it."""
    console.print(f"[bold]{report.model}[/] on {report.machine}", highlight=False)
    console.print(
        f"load average {report.load_before:.1f} before, {report.load_after:.1f} after", highlight=False
    )
    for name, reason in report.absent.items():
        console.print(Text(f"ABSENT {name}: {reason}", style="bold yellow"))
    for sheet in sheets(report):
        if sheet.rows:
            console.print(_rich(sheet))


def _rich(sheet: Sheet) -> Table:
    table = Table(title=sheet.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, name in enumerate(sheet.head):
        text = sheet.is_text(index)
        table.add_column(name, justify="left" if text else "right", no_wrap=not text or not name)
    for row in sheet.rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table


def markdown(report: ServingReport) -> str:
    """The same as Markdown, with machine, versions, set-ups and command."""
    lines = [
        f"Machine: {report.machine}.",
        f"Load average {report.load_before:.1f} before, {report.load_after:.1f} after.",
        f"Made {report.made} by `{report.command}` with {_packages(report.packages)}.",
        "",
        *(f"- **{name}**: {setup}." for name, setup in report.servers.items()),
        *(f"- **{name}**: ABSENT, {reason}." for name, reason in report.absent.items()),
    ]
    for sheet in sheets(report):
        if sheet.rows:
            lines += ["", f"### {sheet.title}", "", *_markdown(sheet)]
    return "\n".join(lines) + "\n"


def _packages(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _markdown(sheet: Sheet) -> Iterable[str]:
    yield _line(sheet.head)
    yield _line(["---" if sheet.is_text(column) else "---:" for column in range(len(sheet.head))])
    for row in sheet.rows:
        yield _line([f"**{cell}**" if cell == "missed" else cell for cell in row])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


BEGIN = "<!-- serving bench: begin -->"
END = "<!-- serving bench: end -->"
