"""A report as Markdown."""

from collections.abc import Iterator

from msgspec import Struct

from hw_bench.ingest.bench import INGEST, ShapeResult
from hw_bench.serving.pairs import Spread, paired, spread

TARGET = 5000.0


class IngestBenchReport(Struct, frozen=True, kw_only=True):
    machine: str
    packages: dict[str, str]
    command: str
    made: str
    results: list[ShapeResult]


def markdown(report: IngestBenchReport) -> str:
    """One table a shape."""
    lines = [
        f"Machine: {report.machine}. Made {report.made} by `{report.command}` with "
        + ", ".join(f"{name} {version}" for name, version in report.packages.items())
        + ".",
        "",
    ]
    for result in report.results:
        lines += [
            f"### {result.shape.name[0].upper()}{result.shape.name[1:]}",
            "",
            f"{result.bytes_a_batch:,} bytes a message, {result.batches:,} batches a round.",
            "",
            *_rows(result),
            "",
        ]
    return "\n".join(lines)


def _rows(result: ShapeResult) -> Iterator[str]:
    yield "| | batches/s | quartiles | processor, µs a batch | that is, with a core to itself | beside ingest on SQLite |"
    yield "|---|---:|---:|---:|---:|---:|"
    ours = [each.batches_per_second for each in result.rounds[INGEST]]
    for name, rounds in result.rounds.items():
        rates = [each.batches_per_second for each in rounds]
        rate = spread(rates)
        cost = spread([each.processor_us for each in rounds])
        beside = "" if name == INGEST else _times(paired(rates, ours))
        kept = ""
        if name == INGEST:
            kept = " (kept)" if rate.median >= TARGET else " (**missed**: 5,000)"
        yield (
            f"| {name} | **{rate.median:,.0f}**{kept} | {rate.low:,.0f} - {rate.high:,.0f} | {cost.median:.0f} "
            f"| {1e6 / cost.median:,.0f} | {beside} |"
        )


def _times(ratio: Spread) -> str:
    return f"{ratio.median:.2f} times ({ratio.low:.2f} - {ratio.high:.2f})"
