"""The supervisor is killed: its real runner must not outlive it, not even one that is stuck in native code."""

import asyncio
import sys
from pathlib import Path

import psutil

from tests.contract.runner import tiny_models as tiny

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
    print("serving", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

_STARTED_CPU_SECONDS = 5.0
"""A runner that has used this much is past its imports (a third of a second), wherever it is."""


async def _supervisor(folder: Path, model: bytes) -> asyncio.subprocess.Process:
    (folder / "same.onnx").write_bytes(model)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SUPERVISOR, str(folder), stdout=asyncio.subprocess.PIPE
    )


async def _kill(supervisor: asyncio.subprocess.Process) -> bool:
    """Kill it; whether its runner is gone soon after."""
    (runner,) = psutil.Process(supervisor.pid).children()
    supervisor.kill()
    # Before waiting for the supervisor: that waits for its pipe too, which a runner that lives on keeps open.
    _, alive = await asyncio.to_thread(psutil.wait_procs, [runner], timeout=10)
    for process in alive:
        process.kill()
    await supervisor.wait()
    return not alive


async def test_a_runner_goes_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    supervisor = await _supervisor(tmp_path, tiny.onnx_unary("Identity"))
    assert supervisor.stdout is not None
    assert await supervisor.stdout.readline() == b"serving\n"
    assert await _kill(supervisor)


async def test_a_runner_that_is_stuck_in_its_model_goes_too(tmp_path: Path) -> None:
    supervisor = await _supervisor(tmp_path, tiny.onnx_endless_loop())
    async with asyncio.timeout(60):
        while not (runners := psutil.Process(supervisor.pid).children()):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.05)
        while runners[0].cpu_times().user < _STARTED_CPU_SECONDS:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
    assert await _kill(supervisor)
