"""Probation with a real runner and real requests: each kind of evidence ends it, with its own reason."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper

from agent.core.commands import ActivateCandidate, ProbeCandidate, ServeActive, WatchProbation
from agent.core.events import Activated, Event, ProbationFailed, ProbationPassed, ProbePassed
from agent.protocol.golden import GoldenVectors
from agent.protocol.manifest import Probation
from agent.service.installer import read_manifest
from tests.contract.protocol.samples import WINDOW
from tests.contract.runner.tiny_models import onnx_busy, onnx_bytes, onnx_unary
from tests.integration.service.committed import DEADLINE, Clients, Device, candidate

FOR_LONG = Probation(requests=1_000_000)


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    device = Device(tmp_path)
    await device.start()
    await device.executor.serve(ServeActive(active=device.release))
    yield device
    await device.stop()


def not_a_number() -> bytes:
    """``y = x``, but NaN where x is over 100."""
    graph = [
        helper.make_node("Less", ["x", "limit"], ["small"]),
        helper.make_node("Neg", ["x"], ["turned"]),
        helper.make_node("Sqrt", ["turned"], ["no_number"]),
        helper.make_node("Where", ["small", "x", "no_number"], ["y"]),
    ]
    return onnx_bytes(
        graph,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor("limit", TensorProto.FLOAT, [], [100.0])],
    )


async def on_probation(device: Device, model: bytes, probation: Probation) -> "asyncio.Task[Event]":
    """Release 2 has been proven and serves; how its probation ends is the task's result."""
    release = candidate(device, model, probation=probation)
    probe = ProbeCandidate(deployment="d2", candidate=release, tried=())
    assert isinstance(await device.executor.probe(probe), ProbePassed)
    activate = ActivateCandidate(deployment="d2", candidate=release, replaces=device.release)
    assert isinstance(await device.executor.activate(activate), Activated)
    watch = WatchProbation(deployment="d2", candidate=release)
    return asyncio.create_task(device.executor.watch(watch))


async def failure(ends: "asyncio.Task[Event]") -> tuple[str, str]:
    async with asyncio.timeout(DEADLINE):
        event = await ends
    assert isinstance(event, ProbationFailed)
    return event.reason.code, event.reason.text


async def ask(device: Device, first: float) -> int:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [first, 0, 0, 0]}]}
    transport = httpx.AsyncHTTPTransport(uds=str(device.server.listeners.unix_path))
    async with httpx.AsyncClient(transport=transport, base_url="http://device", timeout=30.0) as client:
        return (await client.post("/v2/models/busy/infer", json=body)).status_code


async def test_enough_good_answers_over_long_enough_pass_it(device: Device) -> None:
    probation = Probation(requests=5, minimum_seconds=2.0)
    began = asyncio.get_running_loop().time()
    ends = await on_probation(device, onnx_unary("Identity"), probation)
    for _ in range(5):
        assert await ask(device, 1.0) == httpx.codes.OK
    await device.until(lambda: "of 2 s" in getattr(device.executor.waiting_for, "text", ""))
    async with asyncio.timeout(DEADLINE):
        assert isinstance(await ends, ProbationPassed)
    assert asyncio.get_running_loop().time() - began >= 2.0


async def test_nobody_asks_and_the_golden_outputs_are_right_once_more(device: Device) -> None:
    ends = await on_probation(device, onnx_unary("Identity"), Probation(requests=5, maximum_seconds=0.5))
    said = device.executor.waiting_for
    async with asyncio.timeout(DEADLINE):
        assert isinstance(await ends, ProbationPassed)
    assert said is None or said.code == "on-probation"


async def test_nobody_asks_and_the_golden_outputs_are_wrong_by_now(device: Device) -> None:
    """No file of a runner's changes its answers; so what is expected of it is changed, which looks the same."""
    ends = await on_probation(device, onnx_unary("Identity"), Probation(requests=5, maximum_seconds=2.0))
    manifest = read_manifest(device.artifacts.path(device.release.manifest))
    path = device.artifacts.path(manifest.golden.artifact.sha256)
    golden = msgspec.msgpack.decode(path.read_bytes(), type=GoldenVectors)
    wrong = {name: (replace(each[0], data=each[0].data[::-1]),) for name, each in golden.expected.items()}
    path.chmod(0o600)
    path.write_bytes(msgspec.msgpack.encode(replace(golden, expected=wrong)))
    code, text = await failure(ends)
    assert code == "golden-mismatch"
    assert text.startswith("after 0 of 5 requests in 2 s: outputs differ from the golden vectors")


async def test_nan_for_finite_inputs_fails_it(device: Device) -> None:
    ends = await on_probation(device, not_a_number(), replace(FOR_LONG, maximum_failure_rate=0.5))
    assert await ask(device, 99.0) == httpx.codes.OK
    assert await ask(device, 101.0) == httpx.codes.INTERNAL_SERVER_ERROR
    code, text = await failure(ends)
    assert code == "not-finite"
    assert text == "1 of 2 requests were answered with NaN or infinite values for finite inputs"


async def test_requests_that_take_longer_than_the_service_level_fail_it(device: Device) -> None:
    ends = await on_probation(device, onnx_busy(None), FOR_LONG)
    clients = Clients(device.server.listeners.unix_path)
    try:
        await clients.slow_down()
        code, text = await failure(ends)
    finally:
        await clients.stop()
    assert code == "latency-over-level"
    assert "took longer than 50 ms, which 1% may" in text


async def test_drift_fails_it_and_drift_of_what_served_before_does_not(device: Device) -> None:
    ends = await on_probation(device, onnx_unary("Identity"), FOR_LONG)
    verdict = replace(WINDOW.verdict, level="drift", reason="PSI of x-mean is 0.4")
    before = replace(WINDOW, model="busy", release=1, deployment="d1", verdict=verdict)
    device.executor.window(before)
    await asyncio.sleep(0.6)
    assert not ends.done()
    device.executor.window(replace(before, release=2, deployment="d2"))
    assert await failure(ends) == ("drift", "drift was found on probation: PSI of x-mean is 0.4")


async def test_a_runner_that_dies_fails_it(device: Device) -> None:
    ends = await on_probation(device, onnx_unary("Identity"), FOR_LONG)
    assert device.server.active is not None
    os.kill(device.server.active.pid, signal.SIGKILL)
    code, text = await failure(ends)
    assert code in {"runner-killed", "runner-exited", "runner-died"}
    assert text
