import numpy as np
import pytest
from scipy import stats

from agent.drift import SignalError, check_tensors
from agent.drift.signals import Extractor
from agent.drift.views import Array
from agent.protocol.drift import SignalReference, Summary
from agent.protocol.manifest import TensorSpec


def signal(summary: Summary, index: int | None = None, tensor: str = "x") -> SignalReference:
    return SignalReference(
        name=f"{summary}-{index}",
        source="input",
        tensor=tensor,
        summary=summary,
        index=index,
        edges=(0.0, 1.0),
        counts=(0, 0, 0),
        missing=0,
    )


def take(tensor: Array, summary: Summary, index: int | None = None) -> list[float]:
    values: list[float] = Extractor([signal(summary, index)]).values({("input", "x"): tensor})[:, 0].tolist()
    return values


def test_mean_and_std_over_all_elements() -> None:
    tensor = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert take(tensor, "mean") == pytest.approx([5.5, 17.5])
    assert take(tensor, "std") == pytest.approx([tensor[0].std(), tensor[1].std()])


def test_gradient_is_the_mean_step_along_the_last_two_axes() -> None:
    # Six steps of 1 along the rows, four of 10 down the columns; a flat image has none.
    tensor = np.array([[[0, 1, 2, 3], [10, 11, 12, 13]], [[5, 5, 5, 5], [5, 5, 5, 5]]], dtype=np.uint8)
    assert take(tensor, "gradient") == pytest.approx([(6 * 1 + 4 * 10) / 10, 0.0])


def test_gradient_of_a_vector_and_of_a_single_number() -> None:
    assert take(np.array([[0.0, 2.0, 1.0]]), "gradient") == [1.5]
    assert np.isnan(take(np.array([[3.0]]), "gradient")).all()


def test_unsigned_steps_do_not_wrap() -> None:
    assert take(np.array([[200, 10]], dtype=np.uint8), "gradient") == [190.0]


def test_value_is_an_element_of_the_flattened_row() -> None:
    assert take(np.arange(8, dtype=np.int8).reshape(2, 2, 2), "value", 3) == [3.0, 7.0]


def test_entropy_agrees_with_scipy_for_floats_and_quantised_probabilities() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]], dtype=np.float32)
    assert take(scores, "entropy") == pytest.approx(stats.entropy(scores, axis=1), rel=1e-6)
    quantised = np.array([[179, 51, 26]], dtype=np.uint8)
    assert take(quantised, "entropy") == pytest.approx(stats.entropy(quantised.astype(float), axis=1))


def test_what_is_not_a_distribution_has_no_entropy() -> None:
    assert np.isnan(take(np.array([[0.5, -0.5], [0.0, 0.0], [np.nan, 1.0]]), "entropy")).all()


def test_confidence_and_class() -> None:
    scores = np.array([[0.1, 0.9], [0.6, 0.4]])
    assert take(scores, "confidence") == [0.9, 0.6]
    assert take(scores, "argmax") == [1.0, 0.0]


@pytest.mark.parametrize("summary", ["mean", "std", "gradient", "confidence", "entropy", "argmax"])
def test_nan_makes_its_own_row_missing_and_no_other(summary: Summary) -> None:
    found = np.isfinite(take(np.array([[0.5, np.nan], [0.5, 0.5]]), summary))
    assert found.tolist() == [False, True]


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint64, np.float16, np.float64])
def test_every_number_type_is_taken(dtype: type) -> None:
    assert take(np.ones((3, 2), dtype=dtype), "mean") == [1.0, 1.0, 1.0]


def test_no_rows_give_no_values() -> None:
    assert take(np.empty((0, 4)), "mean") == []


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({}, "input tensor 'x' is absent"),
        ({"x": np.array(1.0)}, "batch axis"),
        ({"x": np.array([[b"a"]], dtype=object)}, "number tensor"),
        ({"x": np.ones((2, 3))}, "element 3 is asked for, a row has 3"),
        ({"x": np.ones((2, 4)), "y": np.ones((3, 4))}, "'y' has 3 rows"),
    ],
)
def test_a_tensor_that_lacks_the_signal_is_refused_by_name(tensors: dict[str, Array], text: str) -> None:
    signals = [signal("value", 3), *([signal("mean", tensor="y")] if "y" in tensors else [])]
    with pytest.raises(SignalError, match=text):
        Extractor(signals).values({("input", name): tensor for name, tensor in tensors.items()})


def test_a_model_without_the_tensors_is_refused_before_it_serves() -> None:
    def spec(name: str, shape: tuple[int, ...]) -> TensorSpec:
        return TensorSpec(name=name, datatype="FP32", shape=shape)

    check_tensors([signal("value", 7)], [spec("x", (-1, 2, 4))], [])
    check_tensors([signal("value", 99)], [spec("x", (-1, -1))], [])
    for model, text in (
        ([spec("z", (-1, 8))], "no input tensor 'x'"),
        ([spec("x", (-1, 7))], "element 7"),
        ([spec("x", ())], "batch axis"),
    ):
        with pytest.raises(SignalError, match=text):
            check_tensors([signal("value", 7)], model, [])
