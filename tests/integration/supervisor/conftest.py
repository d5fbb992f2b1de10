"""A tiny real model, its golden vectors, and a server that runs it with the real runner."""

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.core.restart import RestartPolicy
from agent.protocol.golden import GoldenVectors, Tensor
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import WindowClosed
from agent.service.drift_memory import DriftMemory
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from agent.supervisor.runner_process import RunnerCallbacks
from agent.supervisor.serving import RunnerEvent, ServerSettings
from agent.supervisor.specs import RunnerSpec

INPUT = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
OUTPUT = TensorSpec(name="y", datatype="FP32", shape=(-1, 4))
VARIANT = "onnx-fp32"

SpecOf = Callable[[int], RunnerSpec]


@pytest.fixture
def spec_of(tmp_path: Path) -> SpecOf:
    """Release n answers ``y = x + n``."""

    def make(release: int) -> RunnerSpec:
        path = tmp_path / f"add-{release}.onnx"
        graph = helper.make_graph(
            [helper.make_node("Add", ["x", "n"], ["y"])],
            "add",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
            [numpy_helper.from_array(np.full(4, release, np.float32), "n")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(model)
        return RunnerSpec(
            model="add",
            release=release,
            deployment=f"d-{release}",
            variant=VARIANT,
            runtime="onnx",
            artifact_path=str(path),
            artifact_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            inputs=(INPUT,),
            outputs=(OUTPUT,),
        )

    return make


@pytest.fixture
def golden_of(tmp_path: Path) -> Callable[[int], Path]:
    """The golden vectors of release n."""

    def make(release: int) -> Path:
        rows = np.arange(32, dtype=np.float32).reshape(8, 4)
        path = tmp_path / f"golden-{release}.msgpack"
        golden = GoldenVectors(
            inputs=(Tensor(name="x", datatype="FP32", shape=(8, 4), data=rows.tobytes()),),
            expected={
                VARIANT: (Tensor(name="y", datatype="FP32", shape=(8, 4), data=(rows + release).tobytes()),)
            },
        )
        path.write_bytes(msgspec.msgpack.encode(golden))
        return path

    return make


@pytest.fixture
def settings() -> ServerSettings:
    return ServerSettings(
        drain_seconds=5.0, outage_grace_seconds=20.0, restart=RestartPolicy(first_delay=0.05)
    )


@pytest.fixture
def events() -> list[RunnerEvent]:
    return []


@pytest.fixture
def windows() -> list[WindowClosed]:
    return []


@pytest.fixture
async def server(
    tmp_path: Path, settings: ServerSettings, events: list[RunnerEvent], windows: list[WindowClosed]
) -> AsyncIterator[ModelServer]:
    listeners = await ModelListeners.open(
        "add", unix_path=tmp_path / "add.sock", private_folder=tmp_path / "slots", tcp=("127.0.0.1", 0)
    )
    memory = DriftMemory()

    def closed(message: WindowClosed) -> None:
        windows.append(message)
        memory.seen(message.window, message.drift_state)

    server = ModelServer(
        listeners,
        settings=settings,
        on_event=events.append,
        callbacks=RunnerCallbacks(window=closed, drift_states=memory.states),
    )
    server.start("no release of add is active yet")
    yield server
    await server.stop()
