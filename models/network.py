"""A dense ReLU network as plain arrays: what a recipe trains, calibrates and writes to model files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dense:
    """``y = x @ weight + bias``."""

    weight: FloatArray
    """(inputs, outputs) float32."""
    bias: FloatArray
    """(outputs,) float32."""


@dataclass(frozen=True, slots=True)
class Network:
    """Dense layers with ReLU between them; the last one gives logits."""

    layers: tuple[Dense, ...]

    def trace(self, rows: FloatArray) -> list[FloatArray]:
        """Every layer's activation, the logits last.

        Args:
            rows: (n, features) float32.
        """
        activations: list[FloatArray] = []
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            rows = rows @ layer.weight + layer.bias
            if index < last:
                rows = np.maximum(rows, 0)
            activations.append(rows)
        return activations

    def logits(self, rows: FloatArray) -> FloatArray:
        """(n, features) float32 → (n, classes) float32."""
        return self.trace(rows)[-1]

    def cooled(self, temperature: float) -> "Network":
        """The same network whose logits are divided by ``temperature``: its classes stay, its confidences move."""
        *hidden, last = self.layers
        scale = np.float32(1.0 / temperature)
        return Network((*hidden, Dense(weight=last.weight * scale, bias=last.bias * scale)))

    @property
    def parameters(self) -> int:
        return sum(layer.weight.size + layer.bias.size for layer in self.layers)

    @property
    def widths(self) -> str:
        """For instance ``64-32-10``."""
        sizes = [self.layers[0].weight.shape[0], *(layer.bias.size for layer in self.layers)]
        return "-".join(str(size) for size in sizes)


def softmax(logits: FloatArray) -> FloatArray:
    """(n, classes) float32 logits → probabilities, each row summing to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: FloatArray = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def negative_log_likelihood(probabilities: FloatArray, labels: IntArray) -> float:
    """Mean of ``-log p(label)`` in nats; (n, classes) float32 and (n,) int64."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def fit_temperature(logits: FloatArray, labels: IntArray) -> float:
    """The temperature in [0.25, 8] whose softmax has the smallest negative log-likelihood.

    Temperature scaling: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. Fit it on data
    that the network was not trained on.
    """
    candidates = np.geomspace(0.25, 8.0, 241)
    losses = [
        negative_log_likelihood(softmax((logits / value).astype(np.float32)), labels) for value in candidates
    ]
    return float(candidates[int(np.argmin(losses))])
