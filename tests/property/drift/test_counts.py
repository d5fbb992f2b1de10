"""What must hold for any data: counts add up, in any batches, on any number of devices, in any order."""

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.drift import Identity, Judgement, MergedWindow, WindowBuilder, judge, merge_windows
from agent.drift.binning import FEW_EDGES, Binner
from agent.drift.levels import LEVELS
from agent.drift.views import Array
from agent.protocol.codec import decode_json, encode_json
from agent.protocol.drift import (
    DriftPolicy,
    DriftReference,
    DriftWindow,
    SignalCounts,
    SignalReference,
    Summary,
)

SIGNALS: tuple[tuple[Summary, tuple[float, ...]], ...] = (
    ("mean", (0.0, 1.0, 2.0, 3.0)),
    ("std", (0.0, 0.1, 5.0)),
    ("gradient", (0.0, 2.0)),
    ("entropy", (0.0, 0.5, 1.0, 1.5)),
    ("confidence", (-1.0, 0.0, 1.0)),
    ("argmax", (-0.5, 0.5, 1.5, 2.5, 3.5)),
    ("value", (0.0, 0.3, 0.4, 9.0)),
)
ANY_SPEED = settings(deadline=None)
"""A busy machine is slow, not wrong."""

FINITE = st.floats(allow_nan=False, allow_infinity=False)
DTYPES = st.sampled_from([np.float64, np.float32, np.float16, np.int8, np.uint8, np.int32, np.bool_])


def reference_of(counts: dict[str, SignalCounts], rows: int, minimum_rows: int = 1) -> DriftReference:
    return DriftReference(
        schema=1,
        dataset_sha256="0" * 64,
        rows=rows,
        signals=tuple(
            SignalReference(
                name=summary,
                source="input",
                tensor="x",
                summary=summary,
                index=2 if summary == "value" else None,
                edges=edges,
                counts=counts[summary].counts,
                missing=counts[summary].missing,
                not_finite=counts[summary].not_finite,
            )
            for summary, edges in SIGNALS
        ),
        policy=DriftPolicy(minimum_rows=minimum_rows),
    )


EMPTY: dict[str, SignalCounts] = {
    summary: SignalCounts(counts=(0,) * (len(edges) + 1), missing=0) for summary, edges in SIGNALS
}
REFERENCE = reference_of(EMPTY, 0)
IDENTITY = Identity(model="m", release=1, deployment="d", artifact="0" * 64)


@st.composite
def tensors(draw: st.DrawFn) -> Array:
    """Batches of rows of four elements, of any number type, with any value it can hold."""
    rows = draw(st.integers(1, 40))
    tensor: Array = draw(hnp.arrays(draw(DTYPES), (rows, 2, 2)))
    return tensor


@st.composite
def windows(draw: st.DrawFn) -> DriftWindow:
    return closed([draw(tensors())], now=draw(st.floats(0, 1e6)))


def closed(batches: list[Array], now: float = 0.0) -> DriftWindow:
    builder = WindowBuilder(IDENTITY, REFERENCE)
    for batch in batches:
        builder.add({"x": batch}, {}, now)
    window = builder.close(now)
    assert window is not None
    return window.window


@ANY_SPEED
@given(batch=tensors())
def test_counts_always_sum_to_rows(batch: Array) -> None:
    window = closed([batch])
    assert window.rows == len(batch)
    for counts in window.signals.values():
        assert sum(counts.counts) + counts.missing + counts.not_finite == window.rows


@ANY_SPEED
@given(batch=tensors(), data=st.data())
def test_how_rows_are_batched_changes_nothing(batch: Array, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(batch)), max_size=8)) | {0, len(batch)})
    pieces = [batch[start:end] for start, end in itertools.pairwise(cuts)]
    assert closed(pieces) == closed([batch])


@ANY_SPEED
@given(parts=st.lists(windows(), min_size=1, max_size=5), data=st.data())
def test_merging_is_exact_in_any_order_and_grouping(parts: list[DriftWindow], data: st.DataObject) -> None:
    whole = merge_windows(parts)
    shuffled = data.draw(st.permutations(parts))
    cut = data.draw(st.integers(0, len(parts)))
    groups: list[DriftWindow | MergedWindow] = [
        merge_windows(group) for group in (shuffled[:cut], shuffled[cut:]) if group
    ]
    assert merge_windows(groups) == whole
    assert whole.rows == sum(part.rows for part in parts)
    for name, counts in whole.signals.items():
        for kind in ("missing", "not_finite", "repeated"):
            assert getattr(counts, kind) == sum(getattr(part.signals[name], kind) for part in parts)
        for place, count in enumerate(counts.counts):
            assert count == sum(part.signals[name].counts[place] for part in parts)


@ANY_SPEED
@given(
    batches=st.lists(hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.just(2), st.just(2))), min_size=1)
)
def test_a_fleet_counts_what_one_device_would(batches: list[Array]) -> None:
    merged = merge_windows(closed([batch]) for batch in batches)
    # A row repeats the one before it on its own device, so only the rest is a matter of rows alone.
    assert without_repeats(merged.signals) == without_repeats(closed(batches).signals)


def without_repeats(signals: dict[str, SignalCounts]) -> dict[str, SignalCounts]:
    return {name: msgspec.structs.replace(counts, repeated=0) for name, counts in signals.items()}


@st.composite
def counted(draw: st.DrawFn) -> tuple[dict[str, SignalCounts], int]:
    """Any counts of the layout that add up to the same rows, up to the largest the protocol holds."""
    rows = draw(st.one_of(st.integers(0, 40), st.integers(0, 2000), st.integers(0, 2**53)))
    signals: dict[str, SignalCounts] = {}
    for name, empty in EMPTY.items():
        slots = len(empty.counts) + 2
        cuts = sorted(draw(st.lists(st.integers(0, rows), min_size=slots - 1, max_size=slots - 1)))
        sizes = [end - start for start, end in itertools.pairwise([0, *cuts, rows])]
        signals[name] = SignalCounts(
            counts=tuple(sizes[:-2]),
            missing=sizes[-2],
            not_finite=sizes[-1],
            repeated=draw(st.integers(0, sum(sizes[:-2]))),
        )
    return signals, rows


@ANY_SPEED
@given(known=counted(), found=counted(), minimum=st.sampled_from([1, 300]))
def test_judging_never_fails_and_always_carries_its_sample_size(
    known: tuple[dict[str, SignalCounts], int], found: tuple[dict[str, SignalCounts], int], minimum: int
) -> None:
    reference = reference_of(*known, minimum)
    judgement = judge(reference, *found)
    verdict, signals = judgement.verdict, judgement.signals
    # Nothing in it is NaN or infinite, which JSON could not carry.
    assert decode_json(encode_json(judgement), Judgement) == judgement
    assert verdict.rows == found[1]
    assert verdict.level == max((s.level for s in signals.values()), key=LEVELS.index)
    assert (verdict.moved_most == ()) == (verdict.level == "insufficient data")
    assert verdict.reason.endswith(".")
    assert verdict.judged == sum(signal.level != "insufficient data" for signal in signals.values())
    for moved in verdict.moved_most:
        assert moved.level == signals[moved.signal].level
        assert moved.value >= 0
        assert 0 <= moved.p_value <= 1
    for name, signal in signals.items():
        assert signal.rows == sum(found[0][name].counts)
        assert 0 <= signal.p_value <= 1
        assert 0 <= signal.ks <= 1
        assert 0 <= signal.js <= 1
        assert signal.wasserstein >= 0
        assert signal.psi >= 0
        if verdict.rows < minimum:
            assert signal.level == "insufficient data"


@ANY_SPEED
@given(found=counted())
def test_nothing_drifts_from_itself(found: tuple[dict[str, SignalCounts], int]) -> None:
    judgement = judge(reference_of(*found), *found)
    assert judgement.verdict.level in {"ok", "insufficient data"}
    for signal in judgement.signals.values():
        assert (signal.psi, signal.js, signal.ks, signal.wasserstein) == pytest.approx((0, 0, 0, 0))


@ANY_SPEED
@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(1e-3, 1e6),
    bins=st.integers(1, 2 * FEW_EDGES),
    values=st.lists(FINITE, max_size=30),
    places=st.lists(st.integers(0, 2 * FEW_EDGES), max_size=30),
)
def test_arithmetic_and_search_find_the_same_bins(
    low: float, width: float, bins: int, values: list[float], places: list[int]
) -> None:
    edges = np.linspace(low, low + width, bins + 1)
    if not (np.diff(edges) > 0).all():
        return
    tried = np.array([*values, *(edges[place % (bins + 1)] for place in places)])
    signal = SignalReference(
        name="s",
        source="input",
        tensor="x",
        summary="mean",
        edges=tuple(edges.tolist()),
        counts=(0,) * (bins + 2),
        missing=0,
    )
    slots = [bins if value == edges[-1] else int((edges <= value).sum()) for value in tried]
    expected = np.bincount(np.array(slots, dtype=int), minlength=bins + 2)
    binner = Binner([signal])
    assert binner.split(binner.count(tried[:, None]))["s"].counts == tuple(expected.tolist())


@ANY_SPEED
@given(
    edges=st.lists(FINITE, min_size=2, max_size=8, unique=True).map(sorted),
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20),
)
def test_numbers_of_float32_are_counted_as_exactly(edges: list[float], values: list[float]) -> None:
    with np.errstate(over="ignore"):
        near = np.array(edges).astype(np.float32)
        beside = [near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))]
    tried = np.concatenate([*beside, np.array(values, dtype=np.float32)])
    tried = tried[np.isfinite(tried)].astype(np.float64)
    signal = SignalReference(
        name="s",
        source="input",
        tensor="x",
        summary="mean",
        edges=tuple(edges),
        counts=(0,) * (len(edges) + 1),
        missing=0,
    )
    last = len(edges) - 1
    slots = [last if value == edges[-1] else sum(edge <= value for edge in edges) for value in tried.tolist()]
    expected = np.bincount(np.array(slots, dtype=int), minlength=len(edges) + 1)
    binner = Binner([signal])
    assert binner.split(binner.count(tried[:, None]))["s"].counts == tuple(expected.tolist())


@ANY_SPEED
@given(
    sizes=st.lists(st.integers(2, 2 * FEW_EDGES), min_size=1, max_size=6),
    even=st.lists(st.booleans(), min_size=6, max_size=6),
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 40),
)
def test_whichever_way_a_signal_is_counted_its_counts_are_those_of_a_plain_search(
    sizes: list[int], even: list[bool], seed: int, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    edges = [
        np.linspace(-1.0, 1.0, size)
        if flat
        else np.unique([*rng.normal(size=size).round(2).tolist(), 9.0, -9.0])
        for size, flat in zip(sizes, even, strict=False)
    ]
    signals = [
        SignalReference(
            name=f"s{column}",
            source="input",
            tensor="x",
            summary="mean",
            edges=tuple(own.tolist()),
            counts=(0,) * (len(own) + 1),
            missing=0,
        )
        for column, own in enumerate(edges)
    ]
    values = rng.normal(size=(rows, len(edges)))
    for column, own in enumerate(edges):  # on its edges too, and not finite
        values[rng.random(rows) < 0.3, column] = rng.choice(own)
        values[rng.random(rows) < 0.1, column] = rng.choice([np.nan, np.inf, -np.inf])
    binner = Binner(signals)
    found = binner.split(binner.count(values))
    for column, own in enumerate(edges):
        finite = values[np.isfinite(values[:, column]), column]
        slots = np.searchsorted(own, finite, side="right")
        slots[finite == own[-1]] = len(own) - 1
        counts = found[f"s{column}"]
        assert counts.counts == tuple(np.bincount(slots, minlength=len(own) + 1).tolist())
        assert counts.not_finite == rows - len(finite)
