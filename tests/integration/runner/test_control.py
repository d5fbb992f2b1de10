"""What the supervisor may ask of a runner, and what it hears."""

import math
import time
from typing import Any

import httpx
import numpy as np
import pytest

from agent.drift import SignalSpec, build_reference, encode_reference
from agent.protocol.codec import frame
from agent.protocol.drift import DriftPolicy
from agent.protocol.golden import GoldenVectors, Tensor
from agent.protocol.runner import (
    Accept,
    Accepting,
    Drain,
    Drained,
    LoadFailed,
    Probe,
    ProbeFailed,
    ProbeReport,
    Statistics,
    Stop,
    WindowClosed,
)
from tests.contract.runner import tiny_models as tiny
from tests.integration.runner.runner_under_test import RunnerUnderTest

X = np.random.default_rng(2).uniform(-1, 1, (8, 4)).astype(np.float32)


def tensor(name: str, values: np.ndarray) -> Tensor:
    return Tensor(name=name, datatype="FP32", shape=values.shape, data=values.tobytes())


def golden(expected: np.ndarray, *, variant: str = "v", x: np.ndarray = X) -> GoldenVectors:
    return GoldenVectors(inputs=(tensor("x", x),), expected={variant: (tensor("y", expected),)})


def probe(runner: RunnerUnderTest, vectors: GoldenVectors) -> ProbeReport:
    runner.send(Probe(golden_path=runner.golden(vectors), warmup=5, repetitions=50))
    return runner.wait_for(ProbeReport)


def test_loading_reports_the_backend_and_takes_time(runner: RunnerUnderTest) -> None:
    loaded = runner.load()
    assert loaded.backend.startswith("onnxruntime ")
    assert loaded.load_ms > 0


def test_a_probe_measures_and_agrees_with_the_golden_vectors(runner: RunnerUnderTest) -> None:
    runner.load()
    report = probe(runner, golden(tiny.expected(X).astype(np.float32)))
    assert report.golden_max_error < 1e-5
    assert report.golden_class_agreement == 1.0
    assert (report.golden_rows, report.repetitions) == (8, 50)
    assert 0 < report.p50_ms <= report.p99_ms < 1_000


def test_a_probe_reports_a_golden_mismatch(runner: RunnerUnderTest) -> None:
    runner.load()
    wrong = tiny.expected(X).astype(np.float32)
    wrong[0] = wrong[0][::-1] * 3
    report = probe(runner, golden(wrong))
    assert report.golden_max_error == pytest.approx(np.abs(wrong - tiny.expected(X)).max(), rel=1e-4)
    assert report.golden_class_agreement == pytest.approx(7 / 8)


@pytest.mark.parametrize("broken", ["nan", "shape"])
def test_what_cannot_be_compared_is_infinitely_wrong(runner: RunnerUnderTest, broken: str) -> None:
    runner.load()
    expected = tiny.expected(X).astype(np.float32)
    if broken == "nan":
        expected[3, 1] = np.nan
    report = probe(runner, golden(expected if broken == "nan" else expected[:, :2].copy()))
    assert report.golden_max_error == math.inf
    assert report.golden_class_agreement < 1


@pytest.mark.parametrize(
    ("vectors", "code"),
    [
        (golden(tiny.expected(X).astype(np.float32), variant="other"), "golden-variant-missing"),
        (golden(X, x=np.zeros((2, 9), np.float32)), "golden-malformed"),
        (GoldenVectors(inputs=(), expected={}), "golden-malformed"),
    ],
)
def test_golden_vectors_that_do_not_fit_fail_the_probe_and_not_the_runner(
    runner: RunnerUnderTest, vectors: GoldenVectors, code: str
) -> None:
    runner.load()
    runner.send(Probe(golden_path=runner.golden(vectors), warmup=1, repetitions=1))
    assert runner.wait_for(ProbeFailed).code == code
    assert probe(runner, golden(tiny.expected(X).astype(np.float32))).golden_class_agreement == 1.0


def test_an_absent_golden_file_fails_the_probe(runner: RunnerUnderTest) -> None:
    runner.load()
    runner.send(Probe(golden_path="/nowhere/golden", warmup=1, repetitions=1))
    failed = runner.wait_for(ProbeFailed)
    assert failed.code == "golden-unreadable"
    assert "/nowhere/golden" in failed.text


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"content": b"no model"}, "model-unreadable", "protobuf"),
        ({"content": b"no model", "runtime": "tflite"}, "model-unreadable", "TFLite"),
        ({"sha256": "0" * 64}, "model-unreadable", "was expected"),
        ({"runtime": "torch"}, "runtime-missing", "allowed: onnx, tflite"),
        ({"inputs": (tiny.spec("x", "FP32", -1, 9),)}, "contract-mismatch", "input 'x'"),
        ({"reference": b"{}"}, "drift-reference", "reference.json"),
    ],
)
def test_a_model_that_cannot_be_served_says_why_and_the_process_ends(
    runner: RunnerUnderTest, changes: dict[str, Any], code: str, told: str
) -> None:
    runner.start(**changes)
    failed = runner.wait_for(LoadFailed)
    assert failed.code == code
    assert told in failed.text
    assert runner.process.wait(10) == 1


def reference(window_rows: int = 300, window_seconds: float = 3_600.0) -> bytes:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2_000, 4)).astype(np.float32)
    specs = [
        SignalSpec(name="x-mean", source="input", tensor="x", summary="mean"),
        SignalSpec(name="y-argmax", source="output", tensor="y", summary="argmax"),
    ]
    policy = DriftPolicy(window_rows=window_rows, window_seconds=window_seconds, minimum_rows=300)
    made = build_reference(
        specs,
        inputs={"x": x},
        outputs={"y": tiny.expected(x).astype(np.float32)},
        dataset_sha256="0" * 64,
        policy=policy,
    )
    return encode_reference(made)


def send_rows(runner: RunnerUnderTest, values: np.ndarray) -> None:
    transport = httpx.HTTPTransport(uds=str(runner.private_path))
    with httpx.Client(transport=transport, base_url="http://private") as client:
        body = {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": values.shape, "data": values.ravel().tolist()}
            ]
        }
        assert client.post("/v2/models/tiny/infer", json=body).status_code == 200


def accepting(runner: RunnerUnderTest, *, reference: bytes) -> None:
    """What is asked before a runner accepts is nobody's but its supervisor's, and not in any window."""
    runner.load(reference=reference)
    send_rows(runner, X)
    runner.send(Accept())
    runner.wait_for(Accepting)


def test_a_full_window_is_judged_and_sent_with_who_served_it(runner: RunnerUnderTest) -> None:
    accepting(runner, reference=reference())
    rng = np.random.default_rng(1)
    for _ in range(3):
        send_rows(runner, rng.uniform(-1, 1, (100, 4)).astype(np.float32))
    window = runner.wait_for(WindowClosed).window
    assert (window.model, window.release, window.deployment) == ("tiny", 1, "d-1")
    assert window.rows == 300
    assert window.verdict.level == "ok"
    send_rows(runner, rng.uniform(0.5, 1, (300, 4)).astype(np.float32))
    assert runner.wait_for(WindowClosed).window.verdict.level == "drift"


def test_an_old_window_closes_without_a_request(runner: RunnerUnderTest) -> None:
    accepting(runner, reference=reference(window_seconds=0.1))
    send_rows(runner, X)
    window = runner.wait_for(WindowClosed).window
    assert (window.rows, window.verdict.level) == (8, "insufficient data")


def test_stop_reports_the_open_window_and_the_last_counts(runner: RunnerUnderTest) -> None:
    accepting(runner, reference=reference())
    send_rows(runner, X)
    runner.send(Stop())
    said = runner.heard_to_the_end()
    assert [message.window.rows for message in said if isinstance(message, WindowClosed)] == [8]
    assert [message.requests for message in said if isinstance(message, Statistics)][-1] == 1
    assert runner.process.wait(10) == 0


def test_draining_reports_the_open_window_before_it_says_drained(runner: RunnerUnderTest) -> None:
    accepting(runner, reference=reference())
    send_rows(runner, X)
    runner.send(Drain(idle_seconds=5))
    said = runner.heard_to_the_end()
    assert [type(message) for message in said].index(WindowClosed) < len(said) - 1
    assert said[-1] == Drained(closed_idle=0)
    assert runner.process.wait(10) == 0


def test_a_runner_ends_when_its_supervisor_is_gone(runner: RunnerUnderTest) -> None:
    runner.load()
    begun = time.monotonic()
    runner.close_channel()
    assert runner.process.wait(10) == 0
    assert time.monotonic() - begun < 5


def test_a_runner_ends_when_its_supervisor_dies_before_the_first_frame(runner: RunnerUnderTest) -> None:
    runner.close_channel()
    assert runner.process.wait(10) == 0


def test_accepting_twice_breaks_the_contract(runner: RunnerUnderTest) -> None:
    runner.load()
    runner.send(Accept())
    runner.send(Accept())
    assert runner.process.wait(10) == 2


@pytest.mark.parametrize("data", [frame(Accept()), b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc"])
def test_a_supervisor_that_breaks_the_contract_is_left(runner: RunnerUnderTest, data: bytes) -> None:
    runner.send_raw(data)
    assert runner.process.wait(10) == 2
