"""What training does to weights, as deterministic changes of a file."""

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from hw_bench.delta.weights import Change, Weights

SEED = 20261128
LAST_SHARE = 0.01
"""Of all weights: what the last layers that are changed have together, at least."""


class Changed(Struct, frozen=True, kw_only=True):
    """A file before and after."""

    base: bytes
    target: bytes
    share: float
    """Of the file that lies in changed tensors."""


def _int8(values: NDArray[np.int64]) -> NDArray[np.int8]:
    return np.clip(values, -128, 127).astype(np.int8)


def _flips(values: NDArray[Any], random: np.random.Generator, share: float) -> NDArray[Any]:
    step = random.choice(np.array([-1, 1]), len(values)) * (random.random(len(values)) < share)
    return _int8(values.astype(np.int64) + step)


def _scaled(values: NDArray[Any], random: np.random.Generator, spread: float) -> NDArray[Any]:
    scaled: NDArray[Any] = values * (1 + random.normal(0, spread, len(values)))
    return scaled.astype(np.float32)


def _gentle(values: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    if values.dtype == np.int8:
        return _flips(values, random, 0.05)
    return _scaled(values, random, 1e-3)


def _heavy(values: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    if values.dtype == np.int8:
        moved = values.astype(np.int64) + np.rint(random.normal(0, 3, len(values))).astype(np.int64)
        return _int8(moved)
    return _scaled(values, random, 0.05)


def _redrawn(values: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Of the same distribution, and nothing else in common."""
    if values.dtype == np.int8:
        return random.permutation(values)
    return random.normal(values.mean(), values.std(), len(values)).astype(np.float32)


def _seeded(change: Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]) -> Change:
    random = np.random.default_rng(SEED)
    return lambda values: change(values, random)


def _last(weights: Weights) -> frozenset[int]:
    """The last layers, from the output back, until they hold :data:`LAST_SHARE`."""
    chosen: set[int] = set()
    for number in reversed(range(len(weights.layers))):
        chosen.add(number)
        if sum(weights.layers[each] for each in chosen) >= LAST_SHARE * sum(weights.layers):
            break
    return frozenset(chosen)


def _apply(weights: Weights, change: Change, layers: frozenset[int]) -> Changed:
    base = weights.plain()
    size = sum(weights.layers[number] for number in layers)
    return Changed(base=base, target=weights.changed(change, layers), share=size / len(base))


def _all(weights: Weights) -> frozenset[int]:
    return frozenset(range(len(weights.layers)))


CHANGES: dict[str, Callable[[Weights], Changed]] = {
    "last layer": lambda weights: _apply(weights, _seeded(_redrawn), _last(weights)),
    "gentle full": lambda weights: _apply(weights, _seeded(_gentle), _all(weights)),
    "heavy full": lambda weights: _apply(weights, _seeded(_heavy), _all(weights)),
    "metadata only": lambda weights: Changed(base=weights.plain(), target=weights.described(), share=0.0),
}
