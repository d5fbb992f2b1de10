import numpy as np
import pytest

from agent.drift.binning import Binner
from agent.drift.signals import Extractor
from agent.drift.views import Array
from agent.protocol.drift import SignalCounts, SignalReference


def value(name: str, index: int, missing_value: float | None = None) -> SignalReference:
    return SignalReference(
        name=name,
        source="input",
        tensor="x",
        summary="value",
        index=index,
        missing_value=missing_value,
        edges=(-1000.0, 0.0, 10.0),
        counts=(0, 0, 0, 0),
        missing=0,
    )


def category(*codes: int, missing_value: float | None = None) -> SignalReference:
    return SignalReference(
        name="kind",
        source="input",
        tensor="x",
        summary="category",
        index=0,
        categories=codes,
        missing_value=missing_value,
        edges=tuple(place - 0.5 for place in range(len(codes) + 1)),
        counts=(0,) * (len(codes) + 2),
        missing=0,
    )


def counted(signals: list[SignalReference], tensor: Array) -> dict[str, SignalCounts]:
    binner = Binner(signals)
    return binner.split(binner.count(Extractor(signals).values({("input", "x"): tensor})))


def test_categories_have_one_bin_each_and_all_others_are_over() -> None:
    codes = np.array([[2], [7], [7], [40], [-1], [3], [2.5], [np.nan], [np.inf]])
    found = counted([category(2, 7, 40)], codes)["kind"]
    assert found.counts == (0, 1, 2, 1, 3)
    assert (found.missing, found.not_finite) == (0, 2)


def test_a_sentinel_is_missing_whether_it_is_a_known_code_or_not() -> None:
    codes = np.array([[2], [-1], [-1], [9]], dtype=np.int64)
    found = counted([category(2, 7, missing_value=-1)], codes)["kind"]
    assert (found.counts, found.missing, found.not_finite) == ((0, 1, 0, 1), 2, 0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_sentinel_is_compared_as_the_tensor_can_hold_it(dtype: type[np.generic]) -> None:
    rows = np.array([[-999.9, 1.0], [5.0, -999.9], [np.nan, 2.0], [-np.inf, 3.0]], dtype=dtype)
    found = counted([value("with", 0, missing_value=-999.9), value("without", 1)], rows)
    assert found["with"] == SignalCounts(counts=(0, 0, 1, 0), missing=1, not_finite=2)
    assert found["without"] == SignalCounts(counts=(0, 1, 3, 0), missing=0, not_finite=0)


def test_an_integer_sentinel() -> None:
    rows = np.array([[255], [3], [0]], dtype=np.uint8)
    assert counted([value("v", 0, missing_value=255)], rows)["v"].missing == 1
    assert counted([value("v", 0, missing_value=-1)], rows)["v"].missing == 0


@pytest.mark.parametrize("bins", [3, 40])
@pytest.mark.parametrize("even", [True, False])
def test_missing_and_not_finite_are_kept_apart_in_every_way_of_counting(bins: int, *, even: bool) -> None:
    edges = np.linspace(0, 1, bins + 1) if even else np.linspace(0, 1, bins + 1) ** 2
    signals = [
        SignalReference(
            name=name,
            source="input",
            tensor="x",
            summary="value",
            index=index,
            missing_value=sentinel,
            edges=tuple(edges.tolist()),
            counts=(0,) * (bins + 2),
            missing=0,
        )
        for index, (name, sentinel) in enumerate([("a", -1.0), ("b", None)])
    ]
    rows = np.array([[-1.0, -1.0], [np.nan, np.nan], [np.inf, -np.inf], [0.5, 0.5], [-np.inf, 2.0]])
    found = counted(signals, rows)
    assert (found["a"].missing, found["a"].not_finite, sum(found["a"].counts)) == (1, 3, 1)
    assert (found["b"].missing, found["b"].not_finite, sum(found["b"].counts)) == (0, 2, 3)
    assert found["b"].counts[0] == 1
    assert found["b"].counts[-1] == 1
