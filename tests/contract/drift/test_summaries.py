"""One suite over every summary of the protocol: a new one is held to the same rules by being one."""

from typing import get_args

import numpy as np
import pytest

from agent.drift.signals import Extractor, TensorKey
from agent.drift.summaries import ELEMENT_SUMMARIES, PICTURE_SUMMARIES
from agent.drift.views import Array, Floats
from agent.protocol.drift import Components, Layout, SignalReference, Summary

RANDOM = np.random.default_rng(11)
ROWS = 5
PLAIN = [(1,), (7,), (4, 6), (3, 4, 6), (0,), (20_000,)]
PICTURES: list[tuple[tuple[int, ...], Layout]] = [
    ((8, 9), "HW"),
    ((1, 8, 9), "HW"),
    ((3, 8, 9), "CHW"),
    ((1, 8, 9), "CHW"),
    ((8, 9, 3), "HWC"),
    ((8, 9, 4), "HWC"),
    ((2, 2, 3), "HWC"),
    ((90, 120, 3), "HWC"),
    ((0, 0, 3), "HWC"),
]
OF_ELEMENTS = ELEMENT_SUMMARIES | {"projection"}
CASES = [
    *(
        (summary, shape, None)
        for summary in get_args(Summary)
        if summary not in PICTURE_SUMMARIES
        for shape in PLAIN
        if summary not in OF_ELEMENTS or 0 not in shape
    ),
    *((summary, shape, layout) for summary in sorted(PICTURE_SUMMARIES) for shape, layout in PICTURES),
]


def extractor(summary: Summary, shape: tuple[int, ...], layout: Layout | None) -> Extractor:
    elements = int(np.prod(shape))
    signal = SignalReference(
        name="s",
        source="input",
        tensor="x",
        summary=summary,
        index=0 if summary in OF_ELEMENTS else None,
        layout=layout,
        full_scale=0.9 if summary == "clipping" else None,
        categories=(0, 1) if summary == "category" else None,
        edges=(0.0, 1.0),
        counts=(0, 0, 0),
        missing=0,
    )
    random = np.random.default_rng(5)
    mean, vector = (random.normal(size=elements).astype("<f4").tobytes() for _ in range(2))
    embeddings = [Components(source="input", tensor="x", mean=mean, vectors=vector)]
    return Extractor([signal], embeddings if summary == "projection" else [])


def values(one: Extractor, tensor: Array) -> Floats:
    key: TensorKey = ("input", "x")
    assert one.check({key: tensor}) == len(tensor)
    return one.values({key: tensor})[:, 0]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{'x'.join(map(str, case[1]))}-{case[2]}")
def case(request: pytest.FixtureRequest) -> tuple[Extractor, Array, Summary]:
    summary, shape, layout = request.param
    tensor = RANDOM.random((ROWS, *shape))
    if summary == "category":
        tensor = np.round(tensor)
    return extractor(summary, shape, layout), tensor, summary


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_it_sees_each_row_alone(case: tuple[Extractor, Array, Summary], dtype: type[np.generic]) -> None:
    one, drawn, _ = case
    tensor = (drawn * 250).astype(dtype) if dtype is np.uint8 else drawn.astype(dtype)
    together = values(one, tensor)
    assert together.shape == (ROWS,)
    apart = np.concatenate([values(one, tensor[i : i + 1]) for i in range(ROWS)])
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(together[::-1], values(one, tensor[::-1]))
    np.testing.assert_array_equal(together, values(one, np.asfortranarray(tensor)))


def test_it_leaves_its_input_alone(case: tuple[Extractor, Array, Summary]) -> None:
    one, tensor, _ = case
    for kept in (tensor, tensor.astype(np.float32)):
        before = kept.copy()
        values(one, kept)
        np.testing.assert_array_equal(kept, before)


def test_a_row_with_nan_has_no_number_and_no_other_row_is_touched(
    case: tuple[Extractor, Array, Summary],
) -> None:
    one, tensor, _ = case
    whole = values(one, tensor)
    broken = tensor.copy()
    broken[2] = np.nan
    found = values(one, broken)
    assert np.isnan(found[2])
    np.testing.assert_array_equal(np.delete(found, 2), np.delete(whole, 2))


def test_one_nan_is_enough(case: tuple[Extractor, Array, Summary]) -> None:
    one, tensor, _ = case
    broken = tensor.copy()
    if 0 not in tensor.shape:
        broken[2][tuple(size // 2 for size in tensor.shape[1:])] = np.nan
        broken[2].flat[0] = np.nan  # what is taken from one element is taken from the first
    assert not np.isfinite(values(one, broken)[2])


def test_it_takes_infinities_without_a_warning(case: tuple[Extractor, Array, Summary]) -> None:
    one, tensor, _ = case
    for value in (np.inf, -np.inf, 1e308, -1e308, 0.0):
        values(one, np.full_like(tensor, value))
