"""The tables of ``docs/drift.md``."""

from collections.abc import Iterator

from msgspec import Struct

from hw_bench.drift.bench import DriftBench, Pair
from hw_bench.drift.own import ROWS_A_SECOND, SELDOM
from hw_bench.drift.stream import BATCH, BINS, SIGNALS
from hw_bench.serving.pairs import Spread

MOST_US = 3.0
MOST_VERDICT_MS = 5.0
MOST_WIRE_BYTES = 2_048


class DriftBenchReport(Struct, frozen=True, kw_only=True):
    """What ``--out`` writes."""

    machine: str
    time: str
    command: str
    bench: DriftBench


_NAMES = {
    "whylogs-by-row": "whylogs, rows one by one",
    "whylogs-in-batches": f"whylogs, {BATCH} rows at a time",
    "river-adwin": f"River's ADWIN, one for each of the {SIGNALS} signals",
}


def markdown(report: DriftBenchReport) -> str:
    """Markdown, with the command and the machine."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: DriftBenchReport) -> Iterator[str]:
    bench = report.bench
    yield f"Measured {report.time} by `{report.command}` on {report.machine}; {bench.versions}. Processor time; medians of rounds, quartiles in brackets."
    yield ""
    yield f"| {SIGNALS} signals of {BINS} bins, all in | uniform bins | quantile bins | at most | |"
    yield "|---|---|---|---|---|"
    yield _row(f"a row that comes alone, {ROWS_A_SECOND:,.0f} a second", bench.by_row_us, "µs", MOST_US)
    yield _row(f"a row, {BATCH} at a time, as many a second", bench.in_batches_us, "µs", MOST_US)
    yield _row("a full window becomes a record", bench.verdict_ms, "ms", MOST_VERDICT_MS)
    yield _row("it is told how far an open window is, at most every 4 s", bench.telling_ms, "ms")
    yield _row(
        f"a row that comes alone, {SELDOM:,.0f} a second, with its part of that", bench.seldom_us, "µs"
    )
    yield ""
    yield "| the same stream, in the same run | theirs, µs | ours, µs | ours by theirs | at most | |"
    yield "|---|---|---|---|---|---|"
    yield from map(_pair, bench.pairs)
    yield ""
    yield "| one window on the wire, in a batch of its own | rows | bytes | before it was deflated | at most | |"
    yield "|---|---|---|---|---|---|"
    for wire in bench.wire:
        met = _met(wire.bytes <= MOST_WIRE_BYTES)
        yield f"| {SIGNALS} signals, {wire.spacing} bins | {wire.rows:,} | {wire.bytes:,} | {wire.plain_bytes:,} | {MOST_WIRE_BYTES:,} | {met} |"
    yield ""
    yield "| taking the signals of one row | signals | µs |"
    yield "|---|---|---|"
    for one in bench.summaries:
        yield f"| {one.what} | {one.signals} | {one.us_a_row:,.0f} |"
    yield ""
    yield f"Alarm and detectors of {SIGNALS} signals remember {bench.wire[0].state_bytes:,} bytes, on the device only."


def _row(name: str, figures: dict[str, Spread], unit: str, at_most: float | None = None) -> str:
    cells = " | ".join(f"{_spread(figures[kind])} {unit}" for kind in ("uniform", "quantile"))
    if at_most is None:
        return f"| {name} | {cells} | | |"
    met = _met(all(one.median <= at_most for one in figures.values()))
    return f"| {name} | {cells} | {at_most:g} {unit} | {met} |"


def _pair(pair: Pair) -> str:
    return (
        f"| {_NAMES[pair.name]} | {_spread(pair.theirs_us)} | {_spread(pair.ours_us)} | 1/{1 / pair.ratio.median:.1f} "
        f"[1/{1 / pair.ratio.high:.1f} … 1/{1 / pair.ratio.low:.1f}] | 1/{1 / pair.at_most:g} | "
        f"{_met(pair.ratio.median <= pair.at_most)} |"
    )


def _spread(one: Spread) -> str:
    return f"{one.median:.2f} [{one.low:.2f} … {one.high:.2f}]"


def _met(met: bool) -> str:  # noqa: FBT001 - the one thing it says
    return "met" if met else "**missed**"
