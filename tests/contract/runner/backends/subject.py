"""One library under test, and what opens a file of the suite with it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.protocol.manifest import Datatype, TensorSpec
from agent.runner.backends import SUPPORT, Array, Backend, available_runtimes, open_backend
from agent.runner.backends.support import Support
from tests.contract.runner.backends.model_files import content

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 8 - 0.5
BIAS = np.array([0.25, -1.0, 0.5], dtype=np.float32)

INSTALLED = [SUPPORT[described.split()[0]] for described in available_runtimes().values()]


def spec(name: str, datatype: Datatype, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


@dataclass(frozen=True)
class Subject:
    """A library, and a folder for its files."""

    support: Support
    folder: Path

    def path(self, what: str) -> Path:
        path = self.folder / what
        path.write_bytes(content(f"{self.support.runtime}.{what}"))
        return path

    def open(self, what: str, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> Backend:
        return open_backend(self.support.runtime, self.path(what), inputs=inputs, outputs=outputs)

    def linear(self, what: str = "linear") -> Backend:
        return self.open(what, [spec("x", "FP32", -1, 4)], [spec("y", "FP32", -1, 3)])

    def copy(self, datatype: Datatype, what: str | None = None) -> Backend:
        name = what or f"copy-{datatype}"
        return self.open(name, [spec("x", datatype, -1, 4)], [spec("y", datatype, -1, 4)])

    def pair(self, what: str = "pair") -> Backend:
        return self.open(
            what,
            [spec("a", "FP32", -1, 4), spec("b", "FP32", -1, 4)],
            [spec("sum", "FP32", -1, 4), spec("difference", "FP32", -1, 4)],
        )


def rows(count: int, columns: int = 4, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-2, 2, (count, columns)).astype(np.float32)


def expected(x: Array) -> Array:
    """What ``linear`` computes."""
    answer: Array = x @ WEIGHT + BIAS
    return answer
