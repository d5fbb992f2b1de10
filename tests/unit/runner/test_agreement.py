"""Row by row: classes, tolerances, and what never agrees."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from agent.runner.agreement import disagreeing_rows
from agent.runner.backends import Array

NAN, INF = float("nan"), float("inf")


def scores(*rows: list[float]) -> dict[str, Array]:
    return {"y": np.array(rows, np.float32)}


def check(
    ours: Mapping[str, Array], theirs: Mapping[str, Array], rows: int, tolerance: float | None = None
) -> int:
    return disagreeing_rows(ours, theirs, rows=rows, tolerance=tolerance)


def test_the_same_class_agrees_whatever_the_scores() -> None:
    assert check(scores([0.1, 0.9], [0.8, 0.2]), scores([0.4, 0.6], [0.1, 0.9]), 2) == 1


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("tolerance", [None, 1e9])
def test_what_is_not_finite_never_agrees_even_with_itself(value: float, tolerance: float | None) -> None:
    bad = scores([value, 0.0], [0.0, 1.0])
    assert check(bad, bad, 2, tolerance) == 1


def test_one_column_holds_a_value_and_no_classes() -> None:
    assert check(scores([1.0], [2.0]), scores([1.0], [2.5]), 2) == 1
    assert check(scores([1.0], [2.0]), scores([1.0], [2.5]), 2, 0.5) == 0


def test_a_tolerance_is_for_every_value_and_may_be_reached() -> None:
    ours, theirs = scores([0.0, 1.0], [0.0, 1.0]), scores([0.25, 1.0], [0.0, 1.5])
    assert check(ours, theirs, 2, 0.25) == 1
    assert check(ours, theirs, 2, 0.5) == 0


def test_a_row_agrees_where_all_its_outputs_and_positions_do() -> None:
    ours: dict[str, Array] = {"a": np.zeros((3, 2, 4), np.float32), "b": np.array([1, 2, 3], np.int64)}
    theirs: dict[str, Array] = {"a": ours["a"].copy(), "b": np.array([1, 2, 4], np.int64)}
    theirs["a"][0, 1, 3] = 1.0
    assert check(ours, theirs, 3) == 2


@pytest.mark.parametrize(
    "theirs",
    [{}, {"z": np.zeros((2, 3), np.float32)}, {"y": np.zeros((2, 2), np.float32)}, {"y": np.zeros((2, 3))}],
)
def test_another_form_disagrees_in_every_row(theirs: dict[str, Any]) -> None:
    assert check({"y": np.zeros((2, 3), np.float32)}, theirs, 2) == 2


def test_integers_without_a_tolerance_are_compared_exactly_and_do_not_wrap_with_one() -> None:
    large = 2**60
    assert check({"y": np.array([large], np.int64)}, {"y": np.array([large + 1], np.int64)}, 1) == 1
    assert check({"y": np.array([0], np.uint8)}, {"y": np.array([255], np.uint8)}, 1, 1.0) == 1


def test_texts_are_compared_as_they_are() -> None:
    ours = {"y": np.array([b"cat", b"dog"], object)}
    assert check(ours, {"y": np.array([b"cat", b"cow"], object)}, 2) == 1
    assert check(ours, ours, 2, 1.0) == 0


def test_a_model_without_batches_is_one_row_and_an_output_without_rows_speaks_for_all() -> None:
    assert check({"y": np.zeros((4, 3), np.float32)}, {"y": np.eye(4, 3, 1, np.float32)}, 1) == 1
    assert check({"y": np.array(1, np.float32)}, {"y": np.array(2, np.float32)}, 5) == 5
