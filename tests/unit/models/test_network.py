import itertools

import numpy as np
import pytest

from models.distillation import DistillationConfig, distil
from models.network import Dense, Network, fit_temperature, negative_log_likelihood, softmax


def _network() -> Network:
    rng = np.random.default_rng(1)
    sizes = (5, 7, 3)
    return Network(
        tuple(
            Dense(
                weight=rng.normal(size=(before, after)).astype(np.float32),
                bias=rng.normal(size=after).astype(np.float32),
            )
            for before, after in itertools.pairwise(sizes)
        )
    )


def test_trace_is_the_textbook_forward_pass() -> None:
    network = _network()
    rows = np.random.default_rng(2).normal(size=(4, 5)).astype(np.float32)
    first, second = network.layers
    hidden = np.maximum(rows @ first.weight + first.bias, 0)
    assert np.allclose(network.trace(rows)[0], hidden)
    assert np.allclose(network.logits(rows), hidden @ second.weight + second.bias)
    assert network.widths == "5-7-3"
    assert network.parameters == 5 * 7 + 7 + 7 * 3 + 3


def test_cooling_divides_the_logits() -> None:
    rows = np.random.default_rng(2).normal(size=(4, 5)).astype(np.float32)
    network = _network()
    assert np.allclose(network.cooled(2.0).logits(rows), network.logits(rows) / 2.0, atol=1e-6)


def test_softmax_survives_large_logits() -> None:
    result = softmax(np.array([[1000.0, 0.0], [0.0, 0.0]], np.float32))
    assert result.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_temperature_finds_how_much_logits_were_sharpened() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (4000, 6)).astype(np.float32)
    labels = np.array([rng.choice(6, p=row / row.sum()) for row in softmax(logits).astype(np.float64)])
    assert fit_temperature(logits, labels) == pytest.approx(1.0, abs=0.1)
    assert fit_temperature(logits * np.float32(3), labels) == pytest.approx(3.0, abs=0.3)


def test_likelihood_of_the_right_answer() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75]], np.float32)
    expected = -(np.log(0.5) + np.log(0.75)) / 2
    assert negative_log_likelihood(probabilities, np.array([0, 1])) == pytest.approx(expected)


def test_a_student_learns_what_its_teacher_says_not_what_is_true() -> None:
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(600, 4)).astype(np.float32)
    said = (rows[:, 0] > 0).astype(np.int64)
    logits = np.where(np.eye(2)[said] > 0, 3.0, -3.0).astype(np.float32)
    config = DistillationConfig(hidden=(16,), hard_weight=0.0, epochs=30, seed=1)
    student = distil(rows, logits, 1 - said, config)
    assert (student.logits(rows).argmax(axis=1) == said).mean() > 0.95
    again = distil(rows, logits, 1 - said, config)
    assert np.array_equal(student.layers[0].weight, again.layers[0].weight)
    truth = distil(
        rows, logits, 1 - said, DistillationConfig(hidden=(16,), hard_weight=1.0, epochs=30, seed=1)
    )
    assert (truth.logits(rows).argmax(axis=1) == 1 - said).mean() > 0.95
