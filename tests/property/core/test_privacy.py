"""Small counts: what is hidden can't be had from what is told, noise has the distribution it says, and sums stay what they are."""

import itertools
import math
import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.core.privacy import (
    nearest_counts,
    noise,
    noise_scale,
    protect,
    protect_window,
    stricter,
    suppress,
    two_sided_geometric,
    without_figures,
)
from agent.core.thinning import merge_counts, merge_windows, window_key
from agent.protocol.drift import (
    AccuracyEstimate,
    CountPrivacy,
    DriftWindow,
    MovedSignal,
    SignalCounts,
    Verdict,
    Withheld,
)
from agent.protocol.telemetry import Accuracy, Event, Window

CELLS = st.lists(st.one_of(st.integers(0, 8), st.integers(0, 500)), min_size=3, max_size=24)
SUPPRESSED = CountPrivacy(mechanism="suppressed", minimum=5)
NOISED = CountPrivacy(mechanism="noised", epsilon=1.0)


def counts_of(cells: list[int], repeated: int = 0) -> SignalCounts:
    return SignalCounts(counts=tuple(cells[:-2]), missing=cells[-2], not_finite=cells[-1], repeated=repeated)


def cells_of(counts: SignalCounts) -> list[int]:
    return [*counts.counts, counts.missing, counts.not_finite]


def window(*signals: list[int], slice_name: str | None = None) -> DriftWindow:
    rows = sum(signals[0])
    moved = MovedSignal(
        signal="s0", level="drift", rows=rows, statistic="psi", value=0.4321, p_value=1.234e-7
    )
    return DriftWindow(
        model="digits",
        release=1,
        deployment="d-1",
        artifact="1" * 64,
        opened=1.0,
        closed=2.0,
        rows=rows,
        signals={f"s{place}": counts_of(cells) for place, cells in enumerate(signals)},
        verdict=Verdict(
            level="drift",
            rows=rows,
            correction="benjamini-hochberg",
            alpha=0.01,
            judged=1,
            moved_most=(moved,),
            reason="Drift: s0 is missing in 3.217% of rows.",
        ),
        slice=slice_name,
        estimate=AccuracyEstimate(accuracy=0.91234, low=0.88765, high=0.93456, level=0.95, rows=rows - 3),
    )


@given(CELLS, st.integers(3, 40), st.integers(0, 50))
def test_no_small_count_is_told_and_rows_still_add_up(cells: list[int], minimum: int, repeated: int) -> None:
    told = suppress(counts_of(cells, repeated), minimum)
    assert sum(cells_of(told)) + told.withheld == sum(cells)
    assert all(cell == 0 or cell >= minimum for cell in cells_of(told))
    assert all(shown in (0, cell) for shown, cell in zip(cells_of(told), cells, strict=True))
    assert told.repeated in (0, repeated)
    assert told.repeated == 0 or told.repeated >= minimum


@given(CELLS, st.integers(3, 40))
def test_the_total_does_not_tell_what_is_hidden(cells: list[int], minimum: int) -> None:
    told = suppress(counts_of(cells), minimum)
    hidden = [cell for shown, cell in zip(cells_of(told), cells, strict=True) if shown != cell]
    assert told.withheld == sum(hidden)
    if not any(0 < cell < minimum for cell in cells):
        assert hidden == []
        return
    everything = len(hidden) == sum(cell > 0 for cell in cells)
    assert everything or (len(hidden) >= 2 and sum(hidden) >= minimum)


@given(CELLS, st.integers(3, 20))
def test_others_could_have_been_told_just_so(cells: list[int], minimum: int) -> None:
    """Every hidden small count has another value under which the same would be told, wherever there is another cell for it."""
    told = suppress(counts_of(cells), minimum)
    zeros = [place for place, shown in enumerate(cells_of(told)) if shown == 0]
    for place in zeros:
        if not 0 < cells[place] < minimum or len(zeros) < 2:
            continue
        candidates = []
        for other in zeros:
            for step in (1, -1):
                if other == place:
                    continue
                moved = [*cells]
                moved[place] += step
                moved[other] -= step
                if min(moved) >= 0:
                    candidates.append(suppress(counts_of(moved), minimum))
        assert told in candidates or told.withheld < minimum


@given(st.lists(CELLS.filter(lambda cells: len(cells) == 6), min_size=1, max_size=4))
def test_suppressed_windows_merge_by_adding(parts: list[list[int]]) -> None:
    told = [suppress(counts_of(cells), 5) for cells in parts]
    merged = merge_counts(told)
    assert sum(cells_of(merged)) + merged.withheld == sum(map(sum, parts))


@given(CELLS, st.floats(0.05, 20.0), st.integers(1, 64), st.integers(0, 2**32))
def test_noised_counts_are_counts_and_add_up(
    cells: list[int], epsilon: float, signals: int, seed: int
) -> None:
    told = noise(counts_of(cells, 7), noise_scale(epsilon, signals), random.Random(seed).randrange)
    assert sum(cells_of(told)) == sum(cells)
    assert min(cells_of(told)) >= 0
    assert len(told.counts) == len(cells) - 2
    assert told.repeated == 0


@given(st.lists(st.integers(-300, 300), min_size=1, max_size=20), st.integers(0, 1000))
def test_the_nearest_counts_keep_the_order_and_what_is_possible_already(
    noised: list[int], total: int
) -> None:
    told = nearest_counts(noised, total)
    assert sum(told) == total
    assert min(told) >= 0
    for a, b in itertools.pairwise(noised):
        first, second = told[noised.index(a)], told[noised.index(b)]
        assert (a - b) * (first - second) >= 0 or abs(first - second) <= 1
    if min(noised) >= 0 and sum(noised) == total:
        assert told == noised


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(1), Fraction(7, 3), Fraction(40)])
def test_noise_has_the_distribution_that_it_says(scale: Fraction) -> None:
    """Pearson's statistic over the bins with enough expected draws, far under what a fault would give (20 over its mean)."""
    source, draws = random.Random(11), 20_000
    seen = Counter(two_sided_geometric(scale, source.randrange) for _ in range(draws))
    ratio = math.exp(-1 / scale)
    statistic, bins = 0.0, 0
    for z in range(-int(12 * scale) - 3, int(12 * scale) + 4):
        expected = draws * (1 - ratio) / (1 + ratio) * ratio ** abs(z)
        if expected >= 8:
            statistic += (seen[z] - expected) ** 2 / expected
            bins += 1
    assert bins >= 5
    assert statistic < bins + 4.5 * math.sqrt(2 * bins)
    mean = sum(z * count for z, count in seen.items()) / draws
    deviation = math.sqrt(2 * ratio) / (1 - ratio)
    assert abs(mean) < 5 * deviation / math.sqrt(draws)


def test_one_row_more_or_less_changes_the_odds_by_no_more_than_promised() -> None:
    """The mechanism itself, before what follows it: two neighbours, every outcome, from the exact probabilities."""
    epsilon, signals = 0.7, 3
    scale = float(noise_scale(epsilon, signals))
    worst = 0.0
    for outcome in range(-40, 60):
        for moved in range(-40, 60):
            # One row moves from the first cell (10 to 9) to the second (5 to 6).
            one = -abs(outcome - 10) / scale - abs(moved - 5) / scale
            other = -abs(outcome - 9) / scale - abs(moved - 6) / scale
            worst = max(worst, abs(one - other))
    assert worst * signals == pytest.approx(epsilon, rel=1e-6)


def test_no_number_of_a_verdict_or_an_estimate_tells_a_count() -> None:
    given_window = window([1, 400, 2, 300, 11, 3])
    hidden = protect_window(given_window, SUPPRESSED, random.Random(1).randrange)
    noised = protect_window(given_window, NOISED, random.Random(1).randrange)
    assert hidden is not None
    assert noised is not None
    for told, name in ((hidden, "suppressed"), (noised, "noised")):
        assert told.verdict.level == "drift"
        assert told.verdict.moved_most == ()
        assert "s0 moved most" in told.verdict.reason
        assert not any(letter.isdigit() for letter in told.verdict.reason.replace("s0", ""))
        assert name in told.verdict.reason
    assert hidden.estimate == AccuracyEstimate(accuracy=0.91, low=0.88, high=0.94, level=0.95, rows=717)
    assert noised.estimate is None
    assert noised.estimate_off == "it stays on the device, whose counts are noised"
    assert hidden.withheld == Withheld(mechanism="suppressed", parameter=5.0)
    assert noised.withheld == Withheld(mechanism="noised", parameter=2.0)
    assert given_window.withheld is None


def test_why_there_is_no_estimate_tells_no_count() -> None:
    whole = replace(window([0, 27, 0, 3]), estimate=None)
    counted = replace(whole, estimate_off="27 rows have a confidence, at least 30 are needed.")
    plain = replace(whole, estimate_off="The reference was made without labels.")
    for policy in (SUPPRESSED, NOISED):
        told = protect_window(counted, policy, random.Random(1).randrange)
        assert told is not None
        assert told.estimate_off == f"it stays on the device, whose counts are {policy.mechanism}"
    kept = protect_window(plain, SUPPRESSED, random.Random(1).randrange)
    assert kept is not None
    assert kept.estimate_off == plain.estimate_off


@pytest.mark.parametrize(
    ("rows", "step"), [(9, None), (10, 0.5), (30, 0.2), (50, 0.1), (100, 0.05), (250, 0.02), (500, 0.01)]
)
def test_one_step_of_an_estimate_is_as_many_rows_as_a_cell_must_have(rows: int, step: float | None) -> None:
    """Else the share of 29 right rows of 30, and of 28, would differ in what is told."""
    told = protect_window(window([0, rows, 0, 0]), SUPPRESSED, random.Random(1).randrange)
    assert told is not None
    if step is None:
        assert (told.estimate, told.estimate_off) == (
            None,
            "it stays on the device, whose counts are suppressed",
        )
        return
    assert told.estimate is not None
    for value in (told.estimate.accuracy, told.estimate.low, told.estimate.high):
        assert value / step == pytest.approx(round(value / step))
    assert told.estimate.low <= 0.88765
    assert 0.93456 <= told.estimate.high <= 1
    assert step * rows >= SUPPRESSED.minimum


def test_words_that_end_in_a_report_have_no_figure_either() -> None:
    whole = window([1, 400, 2, 300, 11, 3])
    assert without_figures(whole, None) == whole
    told = without_figures(whole, SUPPRESSED)
    assert told.signals == whole.signals
    assert "3.217" not in told.verdict.reason


def test_a_slice_would_tell_what_is_hidden_in_the_whole_so_it_stays() -> None:
    cut = Window(window=window([1, 40, 2, 30, 1, 3], slice_name="site=north"))
    assert protect(cut, SUPPRESSED, random.Random(1).randrange) is None
    assert protect(cut, NOISED, random.Random(1).randrange) is not None
    assert protect(cut, None, random.Random(1).randrange) == cut


@pytest.mark.parametrize("kind", ["drift", "estimate-contradicted", "labels-suspicious"])
@pytest.mark.parametrize("policy", [SUPPRESSED, NOISED])
def test_an_event_of_counts_says_no_figure_and_other_events_are_as_they_were(
    kind: str, policy: CountPrivacy
) -> None:
    event = Event(time=1.0, severity="warning", kind=kind, text="12 of 40 labelled requests are right")
    told = protect(event, policy, random.Random(1).randrange)
    assert isinstance(told, Event)
    assert not any(letter.isdigit() for letter in told.text)
    assert policy.mechanism in told.text
    other = replace(event, kind="hold")
    assert protect(other, SUPPRESSED, random.Random(1).randrange) == other


def accuracy(rows: int, correct: int) -> Accuracy:
    return Accuracy(
        time=1.0,
        model="digits",
        release=1,
        opened=0.0,
        closed=86_400.0,
        origin="person",
        rows=rows,
        correct=correct,
        expected_rows=rows,
        expected_correct=rows * 0.9,
    )


@given(st.integers(1, 400), st.integers(0, 400))
def test_two_records_of_a_day_do_not_tell_one_label(rows: int, correct: int) -> None:
    correct = min(correct, rows)
    first = protect(accuracy(rows, correct), SUPPRESSED, random.Random(1).randrange)
    second = protect(accuracy(rows + 1, correct + 1), SUPPRESSED, random.Random(1).randrange)
    for told in (first, second):
        assert told is None or (
            isinstance(told, Accuracy) and told.rows % 5 == told.correct % 5 == 0 < told.rows
        )
    assert protect(accuracy(rows, correct), NOISED, random.Random(1).randrange) is None


def test_the_stricter_holds_and_of_two_mechanisms_the_owners() -> None:
    assert stricter(None, None) is None
    assert stricter(None, NOISED) == stricter(NOISED, None) == NOISED
    assert stricter(SUPPRESSED, NOISED) == SUPPRESSED
    both = stricter(
        CountPrivacy(mechanism="suppressed", minimum=3),
        CountPrivacy(mechanism="suppressed", minimum=9),
    )
    assert both is not None
    assert both.minimum == 9


def test_windows_of_different_mechanisms_are_not_merged() -> None:
    exact = window([1, 40, 2, 30, 1, 3])
    hidden = protect_window(exact, SUPPRESSED, random.Random(1).randrange)
    assert hidden is not None
    assert window_key(exact) != window_key(hidden)
    twice = merge_windows([hidden, hidden])
    assert twice.rows == sum(cells_of(twice.signals["s0"])) + twice.signals["s0"].withheld
