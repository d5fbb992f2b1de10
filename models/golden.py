"""Golden vectors: real inputs with each variant's answers, computed by the device's own backends."""

from collections.abc import Mapping, Sequence

import numpy as np

from agent.protocol.codec import encode_msgpack
from agent.protocol.golden import GoldenVectors, Tensor
from agent.protocol.manifest import TensorSpec
from models.errors import RecipeError
from models.evaluation import Predict
from models.network import FloatArray, IntArray

MINIMUM_MARGIN = 0.3
"""Smallest lead of the best class: a machine that rounds otherwise must not flip a golden class."""


def choose_rows(
    images: FloatArray, labels: IntArray, predicts: Mapping[str, Predict], *, per_class: int
) -> IntArray:
    """Rows for the golden batch: ``per_class`` of each class, right and clear for every variant.

    Raises:
        RecipeError: a class has not enough such rows.
    """
    clear = np.ones(len(labels), dtype=np.bool_)
    for predict in predicts.values():
        ranked = np.sort(predict(images), axis=1)
        right = predict(images).argmax(axis=1) == labels
        clear &= right & (ranked[:, -1] - ranked[:, -2] >= MINIMUM_MARGIN)
    chosen: list[int] = []
    for label in np.unique(labels).tolist():
        rows = np.flatnonzero(clear & (labels == label))
        if len(rows) < per_class:
            raise RecipeError(
                f"golden vectors: class {label} has {len(rows)} images that every variant reads clearly, "
                f"{per_class} are needed"
            )
        chosen += rows[:per_class].tolist()
    return np.array(chosen, dtype=np.int64)


def golden_vectors(
    images: FloatArray,
    predicts: Mapping[str, Predict],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> bytes:
    """The encoded golden file for models of one FP32 input and one FP32 output."""
    expected: dict[str, tuple[Tensor, ...]] = {
        name: (_tensor(outputs[0].name, predict(images)),) for name, predict in sorted(predicts.items())
    }
    golden = GoldenVectors(inputs=(_tensor(inputs[0].name, images),), expected=expected)
    return encode_msgpack(golden)


def _tensor(name: str, values: FloatArray) -> Tensor:
    data = np.ascontiguousarray(values, dtype="<f4")
    return Tensor(name=name, datatype="FP32", shape=data.shape, data=data.tobytes())
