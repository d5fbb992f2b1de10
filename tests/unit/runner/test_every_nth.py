"""Of rows that follow each other only each n-th is counted, however they are cut into batches."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drift import SignalSpec, build_reference, encode_reference
from agent.protocol.drift import DriftPolicy
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import FromRunner, Start, WindowClosed
from agent.runner.backends import Array
from agent.runner.books import open_books
from agent.runner.every_nth import EveryNth, Tensors
from agent.runner.request_facts import NO_FACTS, RequestFacts


class Seen:
    """An observer that keeps what it is shown."""

    def __init__(self) -> None:
        self.inputs: list[Array] = []
        self.outputs: list[Array] = []
        self.said: list[tuple[str, float]] = []

    def add(self, inputs: Tensors, outputs: Tensors, facts: RequestFacts, now: float) -> None:
        assert facts is NO_FACTS
        self.inputs.append(inputs["x"])
        self.outputs.append(outputs["y"])

    def tick(self, now: float) -> None:
        self.said.append(("tick", now))

    def close(self, now: float) -> None:
        self.said.append(("close", now))


def _every(seen: Seen, every: int) -> EveryNth:
    return EveryNth(seen, every, lambda inputs, _: len(inputs["x"]))


@given(batches=st.lists(st.integers(0, 9), max_size=20), every=st.integers(1, 12))
def test_the_rows_are_those_of_one_long_batch(batches: list[int], every: int) -> None:
    seen, total = Seen(), sum(batches)
    thinned, rows = _every(seen, every), np.arange(total)
    start = 0
    for size in batches:
        part = rows[start : start + size]
        thinned.add({"x": part}, {"y": -part}, NO_FACTS, 1.0)
        start += size
    counted = [int(value) for batch in seen.inputs for value in batch]
    assert counted == list(range(0, total, every))
    assert [int(-value) for batch in seen.outputs for value in batch] == counted


def test_what_is_not_a_row_is_handed_on() -> None:
    seen = Seen()
    thinned = _every(seen, 3)
    thinned.tick(1.0)
    thinned.close(2.0)
    assert seen.said == [("tick", 1.0), ("close", 2.0)]


def test_a_batch_that_is_refused_is_refused_as_before() -> None:
    with pytest.raises(KeyError):
        _every(Seen(), 3).add({}, {}, NO_FACTS, 1.0)


def test_a_release_whose_policy_says_so_counts_each_fifth_frame(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    reference = build_reference(
        [SignalSpec(name="mean", source="input", tensor="x", summary="mean")],
        inputs={"x": x},
        outputs={},
        dataset_sha256="0" * 64,
        policy=DriftPolicy(every=5, window_rows=300),
    )
    path = tmp_path / "reference.json"
    path.write_bytes(encode_reference(reference))
    told = list[FromRunner]()
    books = open_books(
        Start(
            model="digits", release=2, deployment="d-1", variant="v", runtime="onnx", artifact_path="/nowhere",
            artifact_sha256="1" * 64, inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),),
            outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 3)),), labels=(), reference_path=str(path),
            private_fd=0, shared_fds=(), threads=1, default_deadline_ms=1.0, maximum_body_bytes=1, queue_depth=1,
        ),
        told.append,
    ).keeping  # fmt: skip
    for frame in np.repeat(x[:303], 5, axis=0):
        books.add({"x": frame[None]}, {}, NO_FACTS)
    assert books.errors.total() == 0
    (closed,) = (message for message in told if isinstance(message, WindowClosed))
    assert closed.window.rows == 300
    assert closed.window.signals["mean"].repeated == 0
    assert closed.window.verdict.level == "ok"
