import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agent.protocol.access import OutputLimits
from agent.protocol.manifest import Datatype, TensorSpec
from agent.runner.output_policy import OutputPolicy, keep_largest, round_to


def spec(name: str, datatype: Datatype, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


FLOATS = ("FP16", "FP32", "FP64")
DTYPE = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}


@pytest.mark.parametrize("datatype", FLOATS)
def test_rounding_keeps_dtype_and_shape(datatype: Datatype) -> None:
    given = np.array([[0.126, -0.004, 12.344], [1e-7, -1.003, 0.5]], DTYPE[datatype])
    policy = OutputPolicy(OutputLimits(decimals=2), [spec("y", datatype, -1, 3)])
    told = policy.apply({"y": given})["y"]
    assert told.dtype == given.dtype
    wanted = [["0.13", "0.00", "12.34"], ["0.00", "-1.00", "0.50"]]
    assert [[f"{value:.2f}" for value in row] for row in told.tolist()] == wanted
    assert_array_equal(told, told.astype(np.float64).round(2).astype(given.dtype))
    assert not np.signbit(told[0, 1]), "a small negative number does not tell its sign"


def test_rounding_leaves_what_is_not_finite_or_too_large_to_have_decimals() -> None:
    largest = np.finfo(np.float32).max
    given = np.array([[np.nan, np.inf, -np.inf, largest, -largest, 0.26]], np.float32)
    with np.errstate(all="raise"):
        told = round_to(given, 12)
    assert_array_equal(told, given)
    largest_of_all = np.array([np.finfo(np.float64).max])
    with np.errstate(all="raise"):
        assert_array_equal(round_to(largest_of_all, 15), largest_of_all)
    assert_array_equal(round_to(given, 1)[0, 5], np.float32(0.3))


def test_rounding_to_no_decimals_gives_whole_numbers() -> None:
    assert_array_equal(round_to(np.array([0.5, 1.5, 2.4, -0.4]), 0), [0, 2, 2, 0])


def test_the_largest_are_kept_where_they_were() -> None:
    given = np.array([[0.1, 0.6, 0.05, 0.25], [0.7, 0.1, 0.1, 0.1]], np.float32)
    assert_array_equal(keep_largest(given, 2), np.array([[0, 0.6, 0, 0.25], [0.7, 0.1, 0, 0]], np.float32))


def test_of_ties_exactly_k_are_kept_the_first_ones() -> None:
    assert_array_equal(keep_largest(np.array([[0.25] * 4]), 3), [[0.25, 0.25, 0.25, 0]])


def test_logits_below_zero_keep_their_class() -> None:
    given = np.array([[-3.0, -0.5, -7.0], [2.0, -1.0, 1.0], [-1.0, 0.0, -2.0]], np.float32)
    told = keep_largest(given, 1)
    assert_array_equal(told, np.array([[-7, -0.5, -7], [2, -1, -1], [-2, 0, -2]], np.float32))
    assert_array_equal(told.argmax(axis=1), given.argmax(axis=1))


def test_a_nan_is_not_hidden() -> None:
    with np.errstate(all="raise"):
        told = keep_largest(np.array([[0.5, np.nan, 0.4], [np.nan] * 3]), 1)
    assert_array_equal(told, [[0, np.nan, 0], [np.nan, 0, 0]])


@pytest.mark.parametrize("k", [3, 4, 1000])
def test_no_fewer_values_than_k_stay_as_they_are(k: int) -> None:
    given = np.array([[-1.0, 2.0, 3.0]])
    assert_array_equal(keep_largest(given, k), given)


@pytest.mark.parametrize("shape", [(7,), (2, 7), (2, 3, 7), (0, 7)])
def test_the_last_axis_of_any_shape(shape: tuple[int, ...]) -> None:
    given = np.random.default_rng(1).random(shape)
    told = keep_largest(given, 2)
    assert told.shape == shape
    assert ((told != 0).sum(axis=-1) == 2).all()
    assert_array_equal(told.max(axis=-1, initial=0), given.max(axis=-1, initial=0))


def test_top_k_comes_before_rounding_and_the_models_own_arrays_are_not_changed() -> None:
    policy = OutputPolicy(OutputLimits(decimals=1, top_k=1), [spec("y", "FP32", -1, 3)])
    given = np.array([[0.34, 0.33, 0.33]], np.float32)
    kept = given.copy()
    assert_array_equal(policy.apply({"y": given})["y"], np.array([[0.3, 0, 0]], np.float32))
    assert_array_equal(given, kept)


def test_what_is_no_float_and_what_has_no_axis_but_the_batch_stay() -> None:
    policy = OutputPolicy(
        OutputLimits(top_k=1),
        [
            spec("scores", "FP32", -1, 2),
            spec("label", "INT64", -1),
            spec("total", "FP32", -1),
            spec("q", "INT8", -1, 2),
        ],
    )
    outputs = {
        "scores": np.array([[1.0, 2.0], [4.0, 3.0]], np.float32),
        "label": np.array([1, 0]),
        "total": np.array([3.0, 7.0], np.float32),
        "q": np.array([[1, 2], [3, 4]], np.int8),
    }
    told = policy.apply(outputs)
    assert_array_equal(told["scores"], [[0, 2], [4, 0]])
    assert all(told[name] is outputs[name] for name in ("label", "total", "q"))


def test_an_output_that_is_one_row_without_a_batch_has_its_largest_kept() -> None:
    policy = OutputPolicy(OutputLimits(top_k=1), [spec("y", "FP64", 3)])
    assert_array_equal(policy.apply({"y": np.array([1.0, 3.0, 2.0])})["y"], [0, 3, 0])


@pytest.mark.parametrize(
    ("limits", "output", "said"),
    [
        (OutputLimits(decimals=2), spec("y", "INT8", -1, 3), "decimals = 2: the model has no float output"),
        (OutputLimits(top_k=2), spec("y", "INT8", -1, 3), "top_k = 2: the model has no float output"),
        (OutputLimits(top_k=2), spec("y", "FP32", -1), "an axis beside the batch"),
    ],
)
def test_a_wall_that_would_not_stand_is_refused(limits: OutputLimits, output: TensorSpec, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OutputPolicy(limits, [output])
