from collections import Counter

import numpy as np
import pytest

from agent.protocol.runner import FromRunner, WindowClosed, WindowOpen
from hw_bench.drift import own
from hw_bench.drift.bench import DriftBench, Pair
from hw_bench.drift.stream import BATCH, SIGNALS, builder, reference, stream
from hw_bench.drift.table import DriftBenchReport, markdown
from hw_bench.serving.pairs import Spread, spread


def about(value: float) -> Spread:
    return spread([value * 0.9, value, value * 1.1])


def report(by_row: float, theirs: float, wire: int) -> str:
    both = {"uniform": about(by_row), "quantile": about(by_row)}
    pair = Pair(
        name="river-adwin",
        ours_us=about(by_row),
        theirs_us=about(theirs),
        ratio=about(by_row / theirs),
        at_most=1.0,
    )
    bench = DriftBench(
        versions="river 0.26.1",
        by_row_us=both,
        seldom_us=both,
        telling_ms=both,
        in_batches_us=both,
        verdict_ms=both,
        pairs=(pair,),
        wire=(own.Wire(spacing="uniform", rows=500, bytes=wire, plain_bytes=4_000, state_bytes=2_193),),
        summaries=(own.Summarised(what="1,000 scores", signals=4, us_a_row=30.0),),
    )
    return markdown(
        DriftBenchReport(
            machine="a board", time="2026-11-28", command="python -m hw_bench drift", bench=bench
        )
    )


def test_the_table_says_what_was_met_and_what_was_missed() -> None:
    met = report(2.0, 8.0, 1_800)
    assert "**missed**" not in met
    assert (
        "| River's ADWIN, one for each of the 64 signals | 8.00 [7.60 … 8.40] | 2.00 [1.90 … 2.10] | 1/4.0 "
        in met
    )
    missed = report(4.0, 2.0, 3_000)
    assert missed.count("**missed**") == 4
    assert "1/0.5" in missed


def test_what_is_measured_is_a_stream_with_verdicts_on_full_windows() -> None:
    rows = stream(1_100)
    assert rows.shape == (1_100, SIGNALS)
    assert rows.dtype == np.float32
    window = builder(reference("quantile"))
    window.add({"x": rows}, {}, 1.0)
    closed = window.close(2.0)
    assert closed is not None
    assert (closed.window.verdict.judged, closed.window.verdict.level) == (SIGNALS, "ok")
    assert not any(signal.constant for signal in closed.signals.values())


@pytest.mark.parametrize("spacing", ["uniform", "quantile"])
def test_a_window_of_64_signals_by_20_bins_fits_two_kilobytes(spacing: str) -> None:
    wire = own.on_the_wire(stream(500, seed=13), spacing)
    assert wire.bytes <= 2_048 < wire.plain_bytes


def test_costs_are_numbers() -> None:
    signed, rows = reference("uniform"), stream(4 * BATCH)
    assert own.in_batches(signed, rows) > 0
    assert own.by_row(signed, rows) > 0
    assert own.verdict_ms(signed, rows) > 0
    assert own.telling_ms(signed, rows) > 0


def test_what_a_row_costs_holds_all_that_the_runner_says_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[FromRunner]()
    monkeypatch.setattr(own, "_send", said.append)
    own.by_row(reference("uniform"), stream(1_100), 100.0)
    kinds = Counter(type(each) for each in said)
    assert kinds == {WindowClosed: 3, WindowOpen: 2}  # the first window lays out the ring


def test_summaries_are_measured() -> None:
    assert {one.signals for one in own.summaries(2)} == {4, 5}
