"""The supervisor is killed: its real runner must not outlive it."""

import asyncio
import sys
from pathlib import Path

import onnx
import psutil
from onnx import TensorProto, helper

_SUPERVISOR = """
import asyncio, hashlib, pathlib, sys
from agent.protocol.manifest import TensorSpec
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from agent.supervisor.specs import RunnerSpec

async def main():
    folder = pathlib.Path(sys.argv[1])
    listeners = await ModelListeners.open("same", unix_path=folder / "a.sock", private_folder=folder / "p")
    server = ModelServer(listeners)
    tensor = lambda name: TensorSpec(name=name, datatype="FP32", shape=(-1, 4))
    model = folder / "same.onnx"
    runner = await server.prepare(RunnerSpec(
        model="same", release=1, deployment="d-1", variant="onnx-fp32", runtime="onnx", artifact_path=str(model),
        artifact_sha256=hashlib.sha256(model.read_bytes()).hexdigest(), inputs=(tensor("x"),), outputs=(tensor("y"),),
    ))
    await server.activate(runner)
    print(runner.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_runner_goes_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "same.onnx"))
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SUPERVISOR, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    runner = psutil.Process(int(await supervisor.stdout.readline()))
    supervisor.kill()
    await supervisor.wait()
    await asyncio.to_thread(psutil.wait_procs, [runner], timeout=10)
    assert not runner.is_running()
