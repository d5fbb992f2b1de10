import numpy as np
import pytest

from agent.runner.classification import classify

LABELS = ("zero", "one", "two", "three")


def test_each_row_tells_its_highest_values_first() -> None:
    values = np.array([[0.1, 0.7, 0.15, 0.05], [4, 3, 2, 1]], np.float32)
    told = classify(values, 2, batched=True, labels=LABELS)
    assert told.tolist() == [
        [b"0.700000:1:one", b"0.150000:2:two"],
        [b"4.000000:0:zero", b"3.000000:1:one"],
    ]


def test_without_rows_there_is_one_list() -> None:
    assert classify(np.array([1, 5, 10, 4]), 2, batched=False, labels=()).tolist() == [b"10:2", b"5:1"]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint64, np.float16, np.float64, np.bool_])
def test_of_equal_values_the_lower_index_comes_first(dtype: type) -> None:
    values: np.ndarray = np.array([[0, 1, 0, 1]]).astype(dtype)
    told = classify(values, 4, batched=True, labels=())
    assert [text.split(b":")[1] for text in told[0]] == [b"1", b"3", b"0", b"2"]


def test_more_classes_than_there_are_gives_all() -> None:
    assert classify(np.zeros((2, 3)), 10, batched=True, labels=()).shape == (2, 3)


def test_labels_that_are_not_of_these_classes_are_left_out() -> None:
    assert classify(np.array([[1.0, 2.0]]), 1, batched=True, labels=LABELS).tolist() == [[b"2.000000:1"]]


def test_all_dimensions_of_a_row_count() -> None:
    values = np.arange(8).reshape(2, 2, 2)
    assert classify(values, 1, batched=True, labels=LABELS).tolist() == [[b"3:3:three"], [b"7:3:three"]]
