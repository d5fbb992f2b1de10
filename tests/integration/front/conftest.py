"""Two tiny real models with the real supervisor, and the device's one address."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent.core.restart import RestartPolicy
from agent.protocol.labels import LabelAnswer
from agent.protocol.runner import LabelAccess, LabelsGiven, LabelsJoined
from agent.protocol.state import Reason
from agent.supervisor.device_address import DeviceAddress
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from agent.supervisor.runner_process import RunnerCallbacks, RunnerProcess
from agent.supervisor.serving import ServerSettings
from agent.supervisor.specs import RunnerSpec
from tests.contract.runner import tiny_models as tiny

OpenModel = Callable[..., Awaitable[ModelServer]]


@pytest.fixture
def deaths() -> list[Reason]:
    return []


@pytest.fixture
async def address(deaths: list[Reason]) -> AsyncIterator[DeviceAddress]:
    opened = await DeviceAddress.open(
        ("127.0.0.1", 0), maximum_body_bytes=1 << 20, on_front_death=deaths.append
    )
    yield opened
    await opened.close()


@pytest.fixture
async def open_model(tmp_path: Path, address: DeviceAddress) -> AsyncIterator[OpenModel]:
    """Open a model that answers ``y = x · WEIGHT + BIAS``; ``alone``: with the device's address."""
    async with AsyncExitStack() as stack:

        async def opener(
            name: str, *, alone: bool = False, active: bool = True, labels: LabelAccess = "off"
        ) -> ModelServer:
            listeners = await ModelListeners.open(
                name,
                unix_path=tmp_path / f"{name}.sock",
                private_folder=tmp_path / "slots",
                tcp=address.take() if alone else None,
            )
            settings = ServerSettings(drain_seconds=5.0, restart=RestartPolicy(first_delay=0.05))
            server = ModelServer(listeners, settings=settings, callbacks=RunnerCallbacks(labels=_join))
            stack.push_async_callback(server.stop)
            server.start(f"model {name}: no release is committed on this device yet")
            if active:
                await server.activate(await server.prepare(spec_of(tmp_path, name, labels)))
            return server

        yield opener


def _join(runner: RunnerProcess, given: LabelsGiven) -> None:
    """Answers at once, by the model's name."""
    answers = tuple(
        LabelAnswer(request=each.request, outcome="joined", text=runner.spec.model) for each in given.labels
    )
    asyncio.get_running_loop().create_task(runner.say(LabelsJoined(call=given.call, answers=answers)))


def spec_of(folder: Path, model: str, labels: LabelAccess = "off") -> RunnerSpec:
    content = tiny.onnx_linear()
    path = folder / f"{model}.onnx"
    path.write_bytes(content)
    return RunnerSpec(
        model=model,
        release=3,
        deployment="d-1",
        variant="onnx-fp32",
        runtime="onnx",
        artifact_path=str(path),
        artifact_sha256=hashlib.sha256(content).hexdigest(),
        inputs=tiny.INPUTS,
        outputs=tiny.OUTPUTS,
        labels_from=labels,
    )
