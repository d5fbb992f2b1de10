from collections.abc import Callable

import numpy as np
import pytest

from agent.drift import Identity, SignalError, WindowBuilder, signal_values
from agent.drift.binning import Binner, Repeats
from agent.drift.signals import Tensors
from agent.drift.window import RING_ROWS
from agent.protocol.codec import decode_json, encode_json
from agent.protocol.drift import DriftReference, DriftWindow

Batch = Callable[..., tuple[Tensors, Tensors]]


@pytest.fixture
def builder(identity: Identity, reference: DriftReference) -> WindowBuilder:
    return WindowBuilder(identity, reference)


def closed(builder: WindowBuilder, now: float) -> DriftWindow:
    found = builder.close(now)
    assert found is not None
    return found.window


def test_an_empty_window_is_no_window(builder: WindowBuilder, batch: Batch) -> None:
    assert builder.close(5.0) is None
    builder.add(*batch(0), 5.0)
    assert builder.close(5.0) is None
    assert not builder.due(1e9)


def test_it_is_due_by_rows(builder: WindowBuilder, batch: Batch) -> None:
    builder.add(*batch(399), 5.0)
    assert not builder.due(5.0)
    builder.add(*batch(1), 5.0)
    assert builder.due(5.0)


def test_it_is_due_by_age_of_its_first_row(builder: WindowBuilder, batch: Batch) -> None:
    builder.add(*batch(1), 100.0)
    builder.add(*batch(1), 150.0)
    assert not builder.due(159.9)
    assert builder.due(160.0)


def test_a_clock_that_is_set_back_does_not_hold_it_open(builder: WindowBuilder, batch: Batch) -> None:
    builder.add(*batch(1), 1e9)
    builder.add(*batch(1), 100.0)
    assert builder.due(160.0)
    window = closed(builder, 90.0)
    assert (window.opened, window.closed) == (100.0, 100.0)


def test_it_says_what_served_and_when_and_survives_the_wire(
    builder: WindowBuilder, identity: Identity, batch: Batch
) -> None:
    builder.add(*batch(400), 7.0)
    window = closed(builder, 9.0)
    assert (window.model, window.release, window.deployment, window.artifact) == (
        identity.model,
        identity.release,
        identity.deployment,
        identity.artifact,
    )
    assert (window.opened, window.closed, window.rows, window.verdict.rows) == (7.0, 9.0, 400, 400)
    assert decode_json(encode_json(window), DriftWindow) == window


def test_closing_opens_an_empty_one(builder: WindowBuilder, batch: Batch) -> None:
    builder.add(*batch(400), 7.0)
    builder.close(9.0)
    assert builder.rows == 0
    builder.add(*batch(2), 11.0)
    window = closed(builder, 12.0)
    assert (window.rows, window.opened) == (2, 11.0)


def test_rows_are_copied_so_the_caller_may_reuse_its_buffers(
    builder: WindowBuilder, reference: DriftReference, batch: Batch
) -> None:
    inputs, outputs = batch(50)
    binner = Binner(reference.signals)
    values = signal_values(reference, inputs, outputs)
    repeats = Repeats(len(reference.signals))
    repeats.add(values)
    expected = binner.split(binner.count(values), repeats.counts)
    builder.add(inputs, outputs, 0.0)
    inputs["image"][:] = 0
    outputs["scores"][:] = 0
    window = closed(builder, 1.0)
    assert window.signals == expected


def test_a_batch_larger_than_the_ring_is_counted_whole(builder: WindowBuilder, batch: Batch) -> None:
    builder.add(*batch(3), 0.0)
    builder.add(*batch(3 * RING_ROWS + 5), 0.0)
    window = closed(builder, 1.0)
    assert window.rows == 3 * RING_ROWS + 8
    assert sum(window.signals["class"].counts) == window.rows


def test_a_row_larger_than_the_ring_is_counted(builder: WindowBuilder, batch: Batch) -> None:
    outputs = batch(2)[1]
    builder.add({"image": np.zeros((2, 512, 512), dtype=np.float32)}, outputs, 0.0)
    window = closed(builder, 1.0)
    assert sum(window.signals["brightness"].counts) == 2


def test_shape_and_dtype_may_change_between_requests(builder: WindowBuilder, batch: Batch) -> None:
    inputs, outputs = batch(4)
    builder.add(inputs, outputs, 0.0)
    builder.add({"image": inputs["image"].astype(np.float64)}, outputs, 0.0)
    builder.add({"image": np.zeros((4, 9, 3), dtype=np.int8)}, outputs, 0.0)
    window = closed(builder, 1.0)
    assert window.rows == 12
    assert sum(window.signals["sharpness"].counts) + window.signals["sharpness"].not_finite == 12


def test_a_batch_that_cannot_be_read_takes_nothing(builder: WindowBuilder, batch: Batch) -> None:
    inputs, outputs = batch(4)
    builder.add(inputs, outputs, 0.0)
    broken: list[tuple[Tensors, Tensors]] = [
        ({}, outputs),
        (inputs, {"scores": outputs["scores"][:3]}),
        (inputs, {"scores": np.array(0.5)}),
        ({"image": inputs["image"].astype(object)}, outputs),
    ]
    for bad_inputs, bad_outputs in broken:
        with pytest.raises(SignalError):
            builder.add(bad_inputs, bad_outputs, 0.0)
    window = closed(builder, 1.0)
    assert window.rows == 4


def test_a_tensor_too_narrow_for_an_element_takes_nothing(builder: WindowBuilder, batch: Batch) -> None:
    inputs, outputs = batch(4)
    builder.add(inputs, outputs, 0.0)
    with pytest.raises(SignalError, match="element 0"):
        builder.add({"image": np.empty((4, 0, 0), dtype=np.float32)}, outputs, 0.0)
    window = closed(builder, 1.0)
    assert window.rows == 4


def test_tensors_without_a_signal_are_not_looked_at(builder: WindowBuilder, batch: Batch) -> None:
    inputs, outputs = batch(4)
    builder.add({**inputs, "comment": np.array([b"a"], dtype=object)}, outputs, 0.0)
    assert builder.rows == 4


def test_a_stuck_sensor_is_called_constant_and_a_live_one_is_not(
    builder: WindowBuilder, batch: Batch
) -> None:
    inputs, outputs = batch(400)
    inputs["image"][:, 0, 0] = 3.5
    for row in range(400):
        one = slice(row, row + 1)
        builder.add({"image": inputs["image"][one]}, {"scores": outputs["scores"][one]}, 0.0)
    found = builder.close(1.0)
    assert found is not None
    assert found.window.signals["corner"].repeated == 399
    assert found.signals["corner"].constant
    assert found.window.verdict.moved_most[0].signal == "corner"
    assert "and repeats itself as a stuck sensor does; 400 rows" in found.window.verdict.reason
    assert found.window.signals["brightness"].repeated == 0
    assert not found.signals["brightness"].constant


def test_repeats_are_counted_across_batches_and_windows_and_never_of_what_is_not_finite() -> None:
    rows = np.array([[1.0, np.nan], [1.0, np.nan], [2.0, np.inf], [2.0, np.inf], [2.0, 5.0]])
    for cuts in ([5], [1, 5], [2, 3, 5], [3, 5], [1, 2, 3, 4, 5]):
        repeats, start = Repeats(2), 0
        for end in cuts:
            repeats.add(rows[start:end])
            repeats.add(rows[:0])
            start = end
        assert repeats.counts.tolist() == [3, 0]
    long = Repeats(1)
    long.add(np.ones((1_000, 1)))
    assert long.counts.tolist() == [999]


def test_the_row_before_may_be_of_the_window_before(builder: WindowBuilder, batch: Batch) -> None:
    inputs, outputs = batch(1)
    for now in (0.0, 1.0):
        builder.add(inputs, outputs, now)
        repeated = closed(builder, now).signals["corner"].repeated
        assert repeated == int(now)


def test_so_far_it_is_what_it_would_be_if_it_were_closed_and_it_stays_open(
    builder: WindowBuilder, batch: Batch
) -> None:
    assert builder.so_far(5.0) is None
    builder.add(*batch(350), 5.0)
    so_far = builder.so_far(9.0)
    assert so_far is not None
    window = closed(builder, 9.0)
    assert (so_far.window.incomplete, window.incomplete) == (True, False)
    assert (so_far.window.rows, so_far.window.signals) == (window.rows, window.signals)
    assert so_far.window.verdict.level == window.verdict.level
    assert so_far.window.verdict.reason.endswith(window.verdict.reason)
    assert "ended before" in so_far.window.verdict.reason
