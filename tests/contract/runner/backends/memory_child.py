"""Loads a model in a process of its own and says its PSS after loading and after many runs, in MiB."""

import json
import sys
from pathlib import Path

import numpy as np

from agent.runner.backends import open_backend
from tests.contract.runner.backends.subject import spec

LARGEST = 64


def pss_mib() -> float:
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError


def main(runtime: str, path: str, runs: int) -> None:
    backend = open_backend(
        runtime, Path(path), inputs=[spec("x", "FP32", -1, 1024)], outputs=[spec("y", "FP32", -1, 1024)]
    )
    sizes = np.random.default_rng(0).integers(1, LARGEST, runs)
    x = np.ones((LARGEST, 1024), np.float32)
    backend.infer({"x": x})
    backend.infer({"x": x[:1]})
    readings = [pss_mib()]
    for part in np.split(sizes, 2):
        for size in part:
            backend.infer({"x": x[:size]})
        backend.infer({"x": x[:1]})
        readings.append(pss_mib())
    print(json.dumps(readings))  # noqa: T201 - its answer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
