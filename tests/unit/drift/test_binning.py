import numpy as np
import pytest

from agent.drift.binning import Binner, is_uniform
from agent.protocol.drift import SignalReference


def signal(*edges: float, name: str = "s") -> SignalReference:
    return SignalReference(
        name=name,
        source="input",
        tensor="x",
        summary="mean",
        edges=edges,
        counts=(0,) * (len(edges) + 1),
        missing=0,
    )


@pytest.mark.parametrize("edges", [(0.0, 1.0, 2.0), (0.0, 0.5, 2.0)])
def test_bins_are_half_open_and_the_last_is_closed(edges: tuple[float, ...]) -> None:
    binner = Binner([signal(*edges)])
    values = np.array([[-0.1, *edges, 2.0001, np.nan, np.inf, -np.inf]]).T
    found = binner.split(binner.count(values))["s"]
    assert found.counts == (1, 1, 2, 1)
    assert (found.missing, found.not_finite) == (0, 3)


def test_arithmetic_finds_the_bins_that_search_finds_on_and_beside_every_edge() -> None:
    for low, high, bins in ((0.0, 16.0, 10), (-1e-3, 0.7, 7), (1e9, 1e9 + 3, 13), (0.1, 0.3, 50)):
        edges = np.linspace(low, high, bins + 1)
        assert is_uniform(tuple(edges.tolist()))
        values = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
        slots = np.searchsorted(edges, values, side="right")
        slots[values == edges[-1]] = bins
        expected = np.bincount(slots, minlength=bins + 2)
        binner = Binner([signal(*edges.tolist())])
        found = binner.split(binner.count(values[:, None]))["s"]
        assert found.counts == tuple(expected.tolist())


def test_signals_with_different_bins_are_counted_side_by_side() -> None:
    binner = Binner([signal(0, 1, name="a"), signal(0, 0.1, 5, name="b"), signal(0, 1, 2, 3, name="c")])
    counts = binner.split(binner.count(np.array([[0.5, 4.0, 2.5], [9.0, np.nan, -1.0]])))
    assert counts["a"].counts == (0, 1, 1)
    assert counts["b"].counts == (0, 0, 1, 0)
    assert counts["b"].not_finite == 1
    assert counts["c"].counts == (1, 0, 0, 1, 0)


def test_huge_values_and_edges_raise_no_warning() -> None:
    binner = Binner(
        [signal(-1.7e308, 1.7e308, name="a"), signal(0, 5e-324, name="b"), signal(0, 1, name="c")]
    )
    counts = binner.split(binner.count(np.full((1, 3), 1.6e308)))
    assert counts["a"].counts == (0, 1, 0)
    assert counts["b"].counts == (0, 0, 1)
    assert counts["c"].counts == (0, 0, 1)


def test_uneven_edges_are_not_called_uniform() -> None:
    assert not is_uniform((0.0, 0.5, 2.0))
    assert not is_uniform((0.0, 1.0, 2.00001))
