"""A variant that does not keep its budget here is passed over for the next one; the last one of them is a refusal."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.core.commands import ProbeCandidate
from agent.core.events import ProbeFailed, ProbePassed, VariantRejected
from agent.service.installer import read_manifest
from tests.contract.runner.tiny_models import onnx_busy
from tests.integration.service.committed import ACCURATE, SMALL, Device, candidate


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    device = Device(tmp_path)
    await device.start()
    yield device
    await device.stop()


async def test_a_variant_over_its_budget_is_passed_over_and_the_last_one_refuses_the_release(
    device: Device,
) -> None:
    slow = candidate(device, onnx_busy(15_000))
    answer = await device.executor.probe(ProbeCandidate(deployment="d2", candidate=slow, tried=()))
    assert isinstance(answer, VariantRejected)
    assert answer.reason.code == "latency-over-budget"
    manifest = read_manifest(device.artifacts.path(slow.manifest))
    small = replace(slow, variant=SMALL, artifact=manifest.variant(SMALL).artifact.sha256)
    after = ProbeCandidate(deployment="d2", candidate=small, tried=(ACCURATE,))
    assert isinstance(await device.executor.probe(after), ProbePassed)
    last = ProbeCandidate(deployment="d2", candidate=slow, tried=(SMALL,))
    refused = await device.executor.probe(last)
    assert isinstance(refused, ProbeFailed)
    assert refused.reason.code == "latency-over-budget"
