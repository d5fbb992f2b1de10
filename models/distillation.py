"""Knowledge distillation of a dense network in numpy (Hinton, Vinyals and Dean 2015)."""

import itertools
from dataclasses import dataclass

import numpy as np

from models.network import Dense, FloatArray, IntArray, Network, softmax


@dataclass(frozen=True, slots=True)
class DistillationConfig:
    hidden: tuple[int, ...] = (48,)
    """Width of each hidden layer of the student."""
    temperature: float = 3.0
    """Softens both sides' logits, so that the teacher's small probabilities teach too."""
    hard_weight: float = 0.2
    """Share of the loss that is cross-entropy with the true labels; the rest compares soft targets."""
    epochs: int = 120
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    seed: int = 20


def distil(
    rows: FloatArray, teacher_logits: FloatArray, labels: IntArray, config: DistillationConfig
) -> Network:
    """Train a student on a teacher's softened outputs.

    The loss is ``(1 - a) T² CE(softmax(teacher / T), softmax(student / T)) + a CE(labels, softmax(student))``.

    Args:
        rows: (n, features) float32.
        teacher_logits: (n, classes) float32, the teacher's answer for ``rows``.
        labels: (n,) int64 true classes.
        config: sizes and training settings.
    """
    rng = np.random.default_rng(config.seed)
    network = _initial((rows.shape[1], *config.hidden, teacher_logits.shape[1]), rng)
    targets = softmax((teacher_logits / config.temperature).astype(np.float32))
    truth = np.eye(teacher_logits.shape[1], dtype=np.float32)[labels]
    optimizer = _Adam(network, config)
    steps = config.epochs * -(-len(rows) // config.batch)
    for _ in range(config.epochs):
        order = rng.permutation(len(rows))
        for start in range(0, len(rows), config.batch):
            pick = order[start : start + config.batch]
            gradients = _gradients(network, rows[pick], targets[pick], truth[pick], config)
            network = optimizer.step(network, gradients, steps)
    return network


def _initial(widths: tuple[int, ...], rng: np.random.Generator) -> Network:
    """He et al. 2015 initialisation."""
    layers = [
        Dense(
            weight=rng.normal(0.0, np.sqrt(2.0 / before), (before, after)).astype(np.float32),
            bias=np.zeros(after, np.float32),
        )
        for before, after in itertools.pairwise(widths)
    ]
    return Network(tuple(layers))


def _gradients(
    network: Network, rows: FloatArray, targets: FloatArray, truth: FloatArray, config: DistillationConfig
) -> list[Dense]:
    trace = network.trace(rows)
    logits = trace[-1]
    soft = softmax(logits / np.float32(config.temperature)) - targets
    # T² keeps the soft part's size when T changes; one T cancels against the derivative of logits / T.
    both = (1 - config.hard_weight) * config.temperature * soft + config.hard_weight * (
        softmax(logits) - truth
    )
    delta: FloatArray = (both / len(rows)).astype(np.float32)
    gradients: list[Dense] = []
    for index in range(len(network.layers) - 1, -1, -1):
        before = trace[index - 1] if index else rows
        gradients.append(Dense(weight=before.T @ delta, bias=delta.sum(axis=0)))
        if index:
            delta = (delta @ network.layers[index].weight.T) * (before > 0).astype(np.float32)
    return gradients[::-1]


class _Adam:
    """Kingma and Ba 2015, with decoupled weight decay and a rate that falls linearly to zero."""

    def __init__(self, network: Network, config: DistillationConfig) -> None:
        self._config = config
        self._step = 0
        zero = [np.zeros_like(part) for layer in network.layers for part in (layer.weight, layer.bias)]
        self._mean = zero
        self._square = [part.copy() for part in zero]

    def step(self, network: Network, gradients: list[Dense], steps: int) -> Network:
        rate = self._config.learning_rate * (1 - self._step / steps)
        self._step += 1
        layers: list[Dense] = []
        for index, (layer, gradient) in enumerate(zip(network.layers, gradients, strict=True)):
            weight = layer.weight * np.float32(1 - rate * self._config.weight_decay)
            layers.append(
                Dense(
                    weight=weight - self._move(2 * index, gradient.weight, rate),
                    bias=layer.bias - self._move(2 * index + 1, gradient.bias, rate),
                )
            )
        return Network(tuple(layers))

    def _move(self, index: int, gradient: FloatArray, rate: float) -> FloatArray:
        self._mean[index] = np.float32(0.9) * self._mean[index] + np.float32(0.1) * gradient
        self._square[index] = np.float32(0.999) * self._square[index] + np.float32(0.001) * gradient**2
        mean = self._mean[index] / np.float32(1 - 0.9**self._step)
        square = self._square[index] / np.float32(1 - 0.999**self._step)
        move: FloatArray = np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))
        return move
