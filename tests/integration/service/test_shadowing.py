"""Shadow mode with everything real: the executor proves a candidate, live clients go on, and the probe's answer says what
was seen."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from agent.core.commands import ActivateCandidate, ProbeCandidate, ServeActive
from agent.core.events import Activated, ProbeFailed, ProbePassed
from agent.core.slots import InstalledRelease
from agent.protocol.state import ShadowFigures, ShadowPolicy
from tests.contract.runner.tiny_models import onnx_bytes, onnx_unary
from tests.integration.service.committed import Clients, Device, candidate

NO_DEADLINE = 120.0


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    device = Device(tmp_path, slo=None)
    await device.start()
    yield device
    await device.stop()


@pytest.fixture
async def clients(device: Device) -> AsyncIterator[Clients]:
    """Each asks for a row whose first value is the largest, and checks that the committed release answers it."""
    await device.executor.serve(ServeActive(active=device.release))
    clients = Clients(device.server.listeners.unix_path)
    yield clients
    await clients.stop()
    assert clients.wrong == []


def clipped() -> bytes:
    """``y = min(x, 100)`` in effect: the class of a row is another one where its largest value is over 100."""
    graph = [
        helper.make_node("Less", ["x", "limit"], ["small"]),
        helper.make_node("Neg", ["x"], ["turned"]),
        helper.make_node("Where", ["small", "x", "turned"], ["y"]),
    ]
    return onnx_bytes(
        graph,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
        [onnx.helper.make_tensor("limit", TensorProto.FLOAT, [], [100.0])],
    )


async def probe(device: Device, release: InstalledRelease) -> ProbePassed | ProbeFailed:
    command = ProbeCandidate(deployment=release.deployment, candidate=release, tried=())
    answer = await device.executor.probe(command)
    assert isinstance(answer, ProbePassed | ProbeFailed)
    return answer


def figures(answer: ProbePassed | ProbeFailed) -> ShadowFigures:
    assert answer.measurement is not None
    assert answer.measurement.shadow is not None
    return answer.measurement.shadow


async def test_a_candidate_that_agrees_passes_and_then_serves_at_full_priority(
    device: Device, clients: Clients
) -> None:
    release = candidate(device, onnx_unary("Identity"), ShadowPolicy(requests=30, seconds=NO_DEADLINE))
    proving = asyncio.create_task(probe(device, release))
    await device.until(lambda: device.executor.waiting_for is not None)
    said = device.executor.waiting_for
    assert said is not None
    assert said.code == "shadowing"
    assert " of 30 requests" in said.text
    runner = device.executor._candidate
    assert runner is not None
    assert os.sched_getscheduler(runner.pid) in {os.SCHED_IDLE, os.SCHED_BATCH}
    answer = await proving
    assert isinstance(answer, ProbePassed), answer
    seen = figures(answer)
    assert (seen.requests, seen.rows, seen.disagreed, seen.failed) == (30, 30, 0, 0)
    assert seen.p50_ms is not None
    assert seen.p99_ms is not None
    assert 0 < seen.p50_ms <= seen.p99_ms
    assert seen.text.startswith("30 of 30 requests, 0 % disagree in ")
    assert device.executor.waiting_for is None
    assert os.sched_getscheduler(runner.pid) == os.SCHED_OTHER
    activated = await device.executor.activate(
        ActivateCandidate(deployment="d2", candidate=release, replaces=device.release)
    )
    assert isinstance(activated, Activated)
    # What it was fed was not served, and does not count for its probation.
    assert runner.statistics is None or runner.statistics.requests < clients.answers
    await clients.stop()


async def test_a_candidate_that_disagrees_too_often_is_refused_with_the_rate(
    device: Device, clients: Clients
) -> None:
    clients.turns = (
        200  # the first value of each row: turned around by the candidate, whose class is then another
    )
    policy = ShadowPolicy(requests=20, seconds=NO_DEADLINE, maximum_disagreement=0.1)
    answer = await probe(device, candidate(device, clipped(), policy))
    assert isinstance(answer, ProbeFailed)
    assert answer.reason.code == "shadow-disagreement"
    assert "20 of 20 rows (100.0%)" in answer.reason.text
    assert (figures(answer).requests, figures(answer).disagreed) == (20, 20)
    assert device.server.active is not None
    assert device.server.active.spec.release == 1


async def test_without_a_maximum_the_rate_is_only_reported(device: Device, clients: Clients) -> None:
    clients.turns = 200
    answer = await probe(device, candidate(device, clipped(), ShadowPolicy(requests=10, seconds=NO_DEADLINE)))
    assert isinstance(answer, ProbePassed)
    assert figures(answer).disagreed == 10


async def test_too_few_requests_end_it_in_time_and_are_reported(device: Device, clients: Clients) -> None:
    await clients.stop()
    policy = ShadowPolicy(requests=10, seconds=0.6, maximum_disagreement=0.0)
    answer = await probe(device, candidate(device, onnx_unary("Identity"), policy))
    assert isinstance(answer, ProbePassed)
    assert figures(answer).requests == 0
    assert "ended after 0.6 s" in figures(answer).text


async def test_without_anything_that_serves_it_is_not_waited_for(device: Device) -> None:
    policy = ShadowPolicy(requests=10, seconds=NO_DEADLINE)
    answer = await probe(device, candidate(device, onnx_unary("Identity"), policy))
    assert isinstance(answer, ProbePassed)
    assert figures(answer).text == "not compared: nothing serves beside the candidate"


async def test_a_candidate_that_dies_meanwhile_is_refused_and_no_live_request_fails(
    device: Device, clients: Clients
) -> None:
    policy = ShadowPolicy(requests=1_000_000, seconds=NO_DEADLINE)
    proving = asyncio.create_task(probe(device, candidate(device, onnx_unary("Identity"), policy)))
    await device.until(lambda: "disagree" in getattr(device.executor.waiting_for, "text", ""))
    runner = device.executor._candidate
    assert runner is not None
    os.kill(runner.pid, signal.SIGKILL)
    answer = await proving
    assert isinstance(answer, ProbeFailed)
    assert answer.reason.code == "runner-died"
    assert "while it was compared on live requests" in answer.reason.text
    assert answer.measurement is not None
    before = clients.answers
    await device.until(lambda: clients.answers > before + 20)


async def test_comparing_goes_on_with_the_runner_that_replaces_a_dead_one(
    device: Device, clients: Clients
) -> None:
    policy = ShadowPolicy(requests=400, seconds=NO_DEADLINE)
    proving = asyncio.create_task(probe(device, candidate(device, onnx_unary("Identity"), policy)))
    await device.until(lambda: "disagree" in getattr(device.executor.waiting_for, "text", ""))
    dead = device.server.active
    assert dead is not None
    os.kill(dead.pid, signal.SIGKILL)
    answer = await proving
    assert isinstance(answer, ProbePassed)
    assert figures(answer).requests == 400
    assert device.server.active is not dead
    await clients.stop()
    assert all("ReadError" in text or "RemoteProtocolError" in text for text in clients.wrong)
    assert len(clients.wrong) <= 2  # in flight at the kill: one a client
    clients.wrong.clear()


async def test_given_up_it_leaves_what_serves_alone(device: Device, clients: Clients) -> None:
    policy = ShadowPolicy(requests=1_000_000, seconds=NO_DEADLINE)
    proving = asyncio.create_task(probe(device, candidate(device, onnx_unary("Identity"), policy)))
    await device.until(lambda: device.executor.waiting_for is not None)
    active = device.server.active
    proving.cancel()
    await asyncio.wait({proving})
    assert device.executor.waiting_for is None
    before = clients.answers
    await device.until(lambda: clients.answers > before + 20)
    assert device.server.active is active
    assert device.server.ready
