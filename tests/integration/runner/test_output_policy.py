"""What a runner tells of its outputs, and what it watches."""

import httpx
import pytest
from onnx import TensorProto

from agent.protocol.access import Access, OutputLimits
from agent.protocol.codec import encode_json
from agent.protocol.drift import DriftPolicy, DriftReference, SignalReference
from agent.protocol.runner import Accept, Accepting, LoadFailed, Stop, WindowClosed
from tests.contract.runner import tiny_models as tiny
from tests.integration.runner.runner_under_test import RunnerUnderTest

FLOATS = tiny.spec("y", "FP32", -1, 4)
WHOLE = (tiny.spec("x", "INT32", -1, 4), tiny.spec("y", "INT32", -1, 4))


def test_clients_are_told_less_and_drift_sees_what_the_model_said(runner: RunnerUnderTest) -> None:
    signal = SignalReference(
        name="first",
        source="output",
        tensor="y",
        summary="value",
        index=0,
        edges=(-1.0, 0.3, 0.35, 1.0),
        counts=(0, 1, 1, 1, 0),
        missing=0,
    )
    reference = DriftReference(
        schema=1, dataset_sha256="0" * 64, rows=3, signals=(signal,), policy=DriftPolicy()
    )
    runner.load(
        content=tiny.onnx_unary("Abs"),
        outputs=(FLOATS,),
        reference=encode_json(reference),
        access=Access(outputs=OutputLimits(decimals=1, top_k=2)),
    )
    runner.send(Accept())
    runner.wait_for(Accepting)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0.33, -0.77, 0.01, 0.2]}]}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(runner.private_path))) as client:
        answer = client.post("http://localhost/v2/models/tiny/infer", json=body)
    assert answer.json()["outputs"][0]["data"] == pytest.approx([0.3, 0.8, 0, 0])
    runner.send(Stop())
    assert runner.wait_for(WindowClosed).window.signals["first"].counts == (0, 0, 1, 0, 0)


@pytest.mark.parametrize("limits", [OutputLimits(decimals=2), OutputLimits(top_k=1)])
def test_a_wall_that_would_not_stand_refuses_the_release(
    runner: RunnerUnderTest, limits: OutputLimits
) -> None:
    content = tiny.onnx_unary("Abs", TensorProto.INT32)
    runner.start(content=content, inputs=WHOLE[:1], outputs=WHOLE[1:], access=Access(outputs=limits))
    failed = runner.wait_for(LoadFailed)
    assert failed.code == "output-policy"
    assert failed.text.startswith("serving.outputs.tiny: ")
