from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from scipy import stats

from agent.drift import Identity, Judgement, LayoutError, WindowBuilder, judge, signal_values, statistics
from agent.drift.binning import Binner
from agent.drift.signals import Tensors
from agent.protocol.drift import DriftReference, SignalCounts

Batch = Callable[..., tuple[Tensors, Tensors]]
Look = Callable[[Tensors, Tensors], Judgement]


@pytest.fixture
def look(reference: DriftReference, identity: Identity) -> Look:
    def judged(inputs: Tensors, outputs: Tensors) -> Judgement:
        builder = WindowBuilder(identity, reference)
        builder.add(inputs, outputs, 0.0)
        closed = builder.close(1.0)
        assert closed is not None
        return Judgement(verdict=closed.window.verdict, signals=closed.signals)

    return judged


def test_the_same_distribution_is_ok(look: Look, batch: Batch) -> None:
    verdict = look(*batch(400)).verdict
    assert verdict.level == "ok"
    assert verdict.reason.startswith("No drift: ")
    assert verdict.rows == 400
    assert len(verdict.moved_most) == 3


def test_a_moved_input_is_drift_and_named_first(look: Look, batch: Batch) -> None:
    judgement = look(*batch(400, shift=0.4))
    verdict, signal = judgement.verdict, judgement.signals["brightness"]
    assert verdict.level == "drift"
    first = verdict.moved_most[0]
    assert (first.signal, first.statistic, first.level, first.rows) == ("brightness", "psi", "drift", 400)
    assert first.value == float(f"{signal.psi:.4g}")
    assert first.p_value == float(f"{signal.p_value:.4g}")
    assert signal.p_value < 1e-6
    assert judgement.signals["class"].level == "ok"
    assert verdict.reason.startswith("Drift: brightness (PSI ")


def test_a_moved_class_is_found_by_chi_squared(look: Look, batch: Batch) -> None:
    inputs, outputs = batch(400)
    scores = outputs["scores"].astype(np.float64)
    scores[:200, 0] += 1
    signal = look(inputs, {"scores": scores}).signals["class"]
    assert (signal.level, signal.test, signal.ks) == ("drift", "chi-squared", 0.0)


def test_few_rows_are_insufficient_however_far_they_moved(look: Look, batch: Batch) -> None:
    verdict = look(*batch(299, shift=50.0)).verdict
    assert verdict.level == "insufficient data"
    assert verdict.moved_most == ()
    assert verdict.reason == "Insufficient data: 299 rows, at least 300 are needed for a verdict."


def test_a_dead_sensor_is_drift_though_no_value_is_left_to_compare(look: Look, batch: Batch) -> None:
    inputs, outputs = batch(400)
    inputs["image"][:] = np.nan
    judgement = look(inputs, outputs)
    signal = judgement.signals["brightness"]
    assert judgement.verdict.level == "drift"
    assert (signal.not_finite_rate, signal.missing_rate, signal.rows) == (1.0, 0.0, 0)
    first = judgement.verdict.moved_most[0]
    assert (first.statistic, first.value, first.rows) == ("not-finite", 1.0, 0)
    assert first.p_value < 1e-6
    assert "is NaN or infinite in 100.0% of rows (reference 0.0%)" in judgement.verdict.reason


def test_some_rows_without_a_number_are_within_the_policy(look: Look, batch: Batch) -> None:
    inputs, outputs = batch(400)
    inputs["image"][:16] = np.nan
    assert look(inputs, outputs).verdict.level == "ok"
    inputs["image"][:40] = np.nan
    assert look(inputs, outputs).verdict.level == "drift"


def test_rows_outside_the_range_are_drift(look: Look, batch: Batch) -> None:
    inputs, outputs = batch(400)
    inputs["image"][:40, 0, 0] = 1000.0
    judgement = look(inputs, outputs)
    assert judgement.signals["corner"].outside_rate >= 0.1
    assert judgement.signals["corner"].level == "drift"


@pytest.mark.parametrize(
    ("broken", "text", "statistic"),
    [
        (1000.0, "is outside the reference's range in 10.0% of rows (reference 0.0%)", "outside"),
        (np.nan, "is NaN or infinite in 10.0% of rows (reference 0.0%)", "not-finite"),
        (-9.0, "corner is missing in 10.0% of rows (reference 0.0%)", "missing"),
    ],
)
def test_a_share_that_grew_is_drift_by_itself_and_said_so(
    reference: DriftReference, batch: Batch, identity: Identity, broken: float, text: str, statistic: str
) -> None:
    signals = tuple(
        msgspec.structs.replace(signal, missing_value=-9.0) if signal.name == "corner" else signal
        for signal in reference.signals
    )
    deaf = msgspec.structs.replace(reference.policy, psi_warning=90.0, psi_drift=90.0)
    builder = WindowBuilder(identity, msgspec.structs.replace(reference, signals=signals, policy=deaf))
    inputs, outputs = batch(400)
    inputs["image"][:, 0, 0] = np.clip(inputs["image"][:, 0, 0], *_range(reference))
    inputs["image"][:40, 0, 0] = broken
    builder.add(inputs, outputs, 0.0)
    closed = builder.close(1.0)
    assert closed is not None
    verdict = closed.window.verdict
    moved = next(one for one in verdict.moved_most if one.signal == "corner")
    assert (moved.level, moved.statistic, moved.value) == ("drift", statistic, 0.1)
    assert moved.p_value < 1e-6
    assert text in verdict.reason


def _range(reference: DriftReference) -> tuple[float, float]:
    (edges,) = (signal.edges for signal in reference.signals if signal.name == "corner")
    return edges[0], edges[-1]


def shares(reference: DriftReference, moved: int, rows: int) -> dict[str, SignalCounts]:
    """The reference's own distribution over ``rows``, with ``moved`` rows taken from the fullest brightness bin."""
    counts = {}
    for signal in reference.signals:
        scaled = [count * rows // reference.rows for count in signal.counts]
        fullest = int(np.argmax(scaled))
        scaled[fullest] += rows - sum(scaled)
        if signal.name == "brightness":
            scaled[fullest] -= moved
            scaled[2] += moved
        counts[signal.name] = SignalCounts(counts=tuple(scaled), missing=0)
    return counts


def test_a_small_change_is_ok_however_sure_it_is(reference: DriftReference) -> None:
    rows = 400_000
    judgement = judge(reference, shares(reference, rows // 20, rows), rows)
    signal = judgement.signals["brightness"]
    assert signal.psi < reference.policy.psi_warning
    sharper = msgspec.structs.replace(
        reference, policy=msgspec.structs.replace(reference.policy, psi_warning=signal.psi / 2)
    )
    assert signal.p_value < 0.05
    assert judgement.verdict.level == "ok"
    assert judge(sharper, shares(reference, rows // 20, rows), rows).signals["brightness"].psi == signal.psi


def test_a_large_change_that_may_be_chance_is_ok(reference: DriftReference) -> None:
    touchy = msgspec.structs.replace(
        reference, policy=msgspec.structs.replace(reference.policy, psi_warning=1e-6, psi_drift=1e-6)
    )
    counts = shares(reference, 3, 400)
    judgement = judge(touchy, counts, 400)
    assert judgement.signals["brightness"].psi > 1e-6
    assert judgement.verdict.level == "ok"
    assert "which may be chance" in judgement.verdict.reason


def test_one_row_outside_is_chance_even_where_the_policy_allows_none(reference: DriftReference) -> None:
    strict = msgspec.structs.replace(
        reference, policy=msgspec.structs.replace(reference.policy, maximum_outside=0.001)
    )

    def level(outside: int) -> str:
        counts = shares(reference, 0, 400)
        known = list(counts["brightness"].counts)
        known[int(np.argmax(known))] -= outside
        known[-1] += outside
        moved = counts | {"brightness": SignalCounts(counts=tuple(known), missing=0)}
        return judge(strict, moved, 400).verdict.level

    assert level(1) == "ok"
    assert level(8) == "drift"


def test_p_values_are_corrected_over_the_signals(reference: DriftReference, look: Look, batch: Batch) -> None:
    inputs, outputs = batch(400, shift=0.05)
    judgement = look(inputs, outputs)
    values = signal_values(reference, inputs, outputs)
    binner = Binner(reference.signals)
    counts = binner.split(binner.count(values))
    raw = []
    for signal in reference.signals:
        found, known = (
            np.array([side], dtype=np.float64) for side in (counts[signal.name].counts, signal.counts)
        )
        distance = statistics.kolmogorov_smirnov(statistics.sides(found, known))
        raw.append(
            statistics.chi_squared_p_values(found, known)[0]
            if signal.summary == "argmax"
            else statistics.ks_p_values(distance, found.sum(axis=1), known.sum(axis=1))[0]
        )
    corrected = stats.false_discovery_control(raw)
    assert [signal.p_value for signal in judgement.signals.values()] == pytest.approx(corrected)
    assert list(corrected) != pytest.approx(raw)


def test_false_alarms_stay_rare(reference: DriftReference, look: Look, batch: Batch) -> None:
    levels = [look(*batch(400)).verdict.level for _ in range(200)]
    assert levels.count("ok") >= 196


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"class": None}, "signals and the reference's differ: class"),
        ({"extra": SignalCounts(counts=(1,), missing=0)}, "extra"),
        ({"class": SignalCounts(counts=(400,), missing=0)}, "signal class has 1 counts, the reference has 7"),
        ({"class": SignalCounts(counts=(0,) * 7, missing=399)}, "counts 399 rows, the window has 400"),
    ],
)
def test_counts_of_another_layout_are_refused(
    reference: DriftReference, change: dict[str, SignalCounts | None], text: str
) -> None:
    counts = {
        name: value for name, value in (shares(reference, 0, 400) | change).items() if value is not None
    }
    with pytest.raises(LayoutError, match=text):
        judge(reference, counts, 400)
