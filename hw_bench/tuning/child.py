"""The process that measures one model with one setting: ``python -m hw_bench.tuning.child RUNTIME FILE SETTING``."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hw_bench.child import pss_mib
from hw_bench.tuning.measured import Measured

WARM_UP = 20
TIMED_SECONDS = 0.6
LEAST_RUNS, MOST_RUNS = 30, 20_000
LARGEST_BATCH = 32
VARYING_RUNS = 200
IDLE_SECONDS = 0.5
BURST = 5

Run = Callable[[Any], object]


def measure(runtime: str, path: Path, setting: str) -> Measured:
    """Load, time, and vary the batch."""
    from hw_bench.tuning.settings import open_onnx, open_tflite  # noqa: PLC0415 - brings both libraries

    content = path.read_bytes()
    before = pss_mib()
    run, shape = (
        _onnx(open_onnx(content, setting)) if runtime == "onnx" else _tflite(open_tflite(content, setting))
    )
    del content
    one = _rows(1, shape)
    for _ in range(WARM_UP):
        run(one)
    loaded = pss_mib()
    durations = sorted(_time(run, one))
    idle = _idle(run, one)
    for size in np.random.default_rng(0).integers(1, LARGEST_BATCH + 1, VARYING_RUNS):
        run(_rows(int(size), shape))
    run(one)
    return Measured(
        p50_us=durations[len(durations) // 2] * 1e6,
        p99_us=durations[int(len(durations) * 0.99)] * 1e6,
        loaded_mib=loaded - before,
        used_mib=pss_mib() - before,
        idle_percent=idle,
    )


def _rows(count: int, shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(count).uniform(0, 1, (count, *shape)).astype(np.float32)


def _time(run: Run, one: object) -> list[float]:
    durations: list[float] = []
    end = time.perf_counter() + TIMED_SECONDS
    while len(durations) < MOST_RUNS and (len(durations) < LEAST_RUNS or time.perf_counter() < end):
        begun = time.perf_counter()
        run(one)
        durations.append(time.perf_counter() - begun)
    return durations


def _idle(run: Run, one: object) -> float:
    used = time.process_time()
    for _ in range(BURST):
        run(one)
    together = time.process_time() - used
    used, begun = time.process_time(), time.perf_counter()
    for _ in range(BURST):
        run(one)
        time.sleep(IDLE_SECONDS / BURST)
    apart = time.process_time() - used
    return max(0.0, apart - together) / (time.perf_counter() - begun) * 100


def _onnx(session: Any) -> tuple[Run, tuple[int, ...]]:
    (given,) = session.get_inputs()
    return lambda rows: session.run(None, {given.name: rows}), tuple(given.shape[1:])


def _tflite(interpreter: Any) -> tuple[Run, tuple[int, ...]]:
    interpreter.allocate_tensors()
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    planned = [1]

    def run(rows: Any) -> object:
        if len(rows) != planned[0]:
            interpreter.resize_tensor_input(given["index"], rows.shape)
            interpreter.allocate_tensors()
            planned[0] = len(rows)
        interpreter.set_tensor(given["index"], rows)
        interpreter.invoke()
        return interpreter.get_tensor(wanted["index"])

    return run, tuple(int(size) for size in given["shape"][1:])


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(measure(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
