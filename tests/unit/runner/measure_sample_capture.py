"""What sample capture costs beside the request path, and on the flash: ``python -m tests.unit.runner.measure_sample_capture``."""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from agent.drift import SignalSpec, build_reference
from agent.protocol.samples import KeptSample, SamplePolicy
from agent.runner.request_facts import NO_FACTS
from agent.runner.sample_capture import ROWS_A_SECOND, SampleCapture, Served
from agent.store.samples import SampleRing

FEATURES = 64
ROUNDS = 30
POLICY = SamplePolicy(
    reasons=("low-confidence", "outside-reference", "over-represented"),
    low_confidence_share=0.02,
    per_hour=3600,
    maximum_bytes=256 * 1024,
)


def main() -> None:
    random = np.random.default_rng(1)
    x = random.uniform(0, 1, (4000, FEATURES)).astype(np.float32)
    y = random.dirichlet(np.ones(3), 4000).astype(np.float32)
    signals = [
        SignalSpec(name=f"x{index}", source="input", tensor="x", summary="value", index=index)
        for index in range(FEATURES - 1)
    ]
    signals.append(SignalSpec(name="confidence", source="output", tensor="y", summary="confidence"))
    reference = build_reference(signals, inputs={"x": x}, outputs={"y": y}, dataset_sha256="0" * 64)
    taken: list[KeptSample] = []
    capture = SampleCapture(Served("m", 1, "d", "1" * 64), reference, POLICY, taken.append)
    copied, beyond, judged = [], [], []
    for turn in range(ROUNDS):
        x = random.uniform(-0.01, 1.01, (1000, FEATURES)).astype(np.float32)
        begin = time.perf_counter()
        for row in range(ROWS_A_SECOND):
            capture.add({"x": x[row : row + 1]}, {"y": y[row : row + 1]}, NO_FACTS, float(turn))
        copied.append((time.perf_counter() - begin) / ROWS_A_SECOND * 1e6)
        begin = time.perf_counter()
        for row in range(1000):
            capture.add({"x": x[row : row + 1]}, {"y": y[row : row + 1]}, NO_FACTS, float(turn))
        beyond.append((time.perf_counter() - begin) / 1000 * 1e6)
        begin = time.perf_counter()
        capture.tick(float(turn))
        judged.append((time.perf_counter() - begin) * 1e3)
    _say(
        f"a row that is copied: {median(copied):.2f} µs; one beyond the {ROWS_A_SECOND} of a second: {median(beyond):.2f} µs"
    )
    _say(f"judging {ROWS_A_SECOND} rows of {FEATURES} signals, once a second: {median(judged):.2f} ms")
    with tempfile.TemporaryDirectory() as folder:
        ring = SampleRing(
            Path(folder) / "samples",
            maximum_bytes=1 << 24,
            maximum_count=500,
            days=30.0,
            written_bytes_per_day=1 << 30,
        )
        before = _written()
        begin = time.perf_counter()
        kept = [sample for sample in taken[:50] if ring.add(sample, 1.0)]
        seconds = (time.perf_counter() - begin) / len(kept)
        blocks = (_written() - before) / len(kept)
        _say(
            f"a sample of {kept[0].tensor_bytes} bytes: {ring.size // len(kept)} bytes in its file, {blocks:.0f} bytes written,"
            f" {seconds * 1e3:.2f} ms, of {len(kept)}"
        )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _written() -> int:
    """Bytes that this process has caused to be written, as the kernel counts them."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["write_bytes"])


if __name__ == "__main__":
    main()
