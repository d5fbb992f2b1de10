"""Runs inside a User-mode Linux guest as root (see test_cgroup_enforced.py): real cgroups, real runners, a real killer."""

import asyncio
import contextlib
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import psutil

from agent.core.restart import RestartPolicy
from agent.supervisor import memory
from agent.supervisor.cgroup import SLACK_MIB, Cgroup
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from agent.supervisor.room import free_mib
from agent.supervisor.serving import RunnerEvent, ServerSettings
from agent.supervisor.specs import RunnerSpec
from tests.contract.runner import tiny_models as tiny
from tests.fault.supervisor.hungry_model import hungry
from tests.support.uml import report

SLICE = Path("/sys/fs/cgroup/system.slice")
SERVICE = SLICE / "edgeward-agent.service"
FOLDER = Path("/run/edgeward")
NOBODY = 65534


def make_service(folder: Path) -> None:
    """What systemd does before it starts a unit with ``Delegate=memory``."""
    folder.mkdir(parents=True)
    for parent in (SLICE.parent, SLICE):
        (parent / "cgroup.subtree_control").write_text("+memory +pids")


def delegation() -> dict[str, Any]:
    """Refused without the mark; with it, the agent's processes move into a leaf and leftovers go."""
    make_service(SERVICE)
    (SERVICE / "cgroup.procs").write_text(str(os.getpid()))
    refused = Cgroup.delegated() is None
    left = SERVICE / "runner-left-1-1"
    left.mkdir()
    sleeper = subprocess.Popen(["sleep", "600"])
    (left / "cgroup.procs").write_text(str(sleeper.pid))
    os.setxattr(SERVICE, "user.delegate", b"1")
    group = Cgroup.delegated()
    assert group is not None
    return {
        "refused_without_the_mark": refused,
        "own": Path("/proc/self/cgroup").read_text().strip(),
        "controllers_for_children": (SERVICE / "cgroup.subtree_control").read_text().split(),
        "left_over_process": sleeper.wait(10),
        "left_over_cgroup": left.exists(),
        "again": Cgroup.delegated() is not None,
    }


def delegation_to_a_user() -> bool:
    """As with ``User=``: the cgroup belongs to an ordinary user, and nothing else tells that it is delegated."""
    folder = SLICE / "other.service"
    make_service(folder)
    for path in (folder, *(folder / f"cgroup.{file}" for file in ("procs", "threads", "subtree_control"))):
        os.chown(path, NOBODY, NOBODY)
    child = os.fork()
    if child == 0:
        (folder / "cgroup.procs").write_text(str(os.getpid()))
        os.setresuid(NOBODY, NOBODY, NOBODY)
        group = Cgroup.delegated()
        made = group is not None and group.child("x", 32.0).folder.is_dir()
        os._exit(0 if made else 1)
    return os.waitpid(child, 0)[1] == 0


def spec(name: str, content: bytes, limit: float) -> RunnerSpec:
    path = FOLDER / f"{name}.onnx"
    path.write_bytes(content)
    return RunnerSpec(
        model=name,
        release=1,
        deployment=f"d-{name}",
        variant="onnx",
        runtime="onnx",
        artifact_path=str(path),
        artifact_sha256=hashlib.sha256(content).hexdigest(),
        inputs=(tiny.spec("x", "FP32", -1, 4),),
        outputs=(tiny.spec("y", "FP32", -1, 4),),
        default_deadline_ms=60_000.0,
        memory_limit_mib=limit,
    )


async def serve(wanted: RunnerSpec, group: Cgroup, events: list[RunnerEvent]) -> ModelServer:
    listeners = await ModelListeners.open(
        wanted.model, unix_path=FOLDER / f"{wanted.model}.sock", private_folder=FOLDER / "slots"
    )
    settings = ServerSettings(outage_grace_seconds=60.0, restart=RestartPolicy(first_delay=0.01))
    server = ModelServer(listeners, settings=settings, on_event=events.append, cgroup=group)
    await server.activate(await server.prepare(wanted))
    return server


async def infer(server: ModelServer, mib: float) -> httpx.Response:
    transport = httpx.AsyncHTTPTransport(uds=str(server.listeners.unix_path))
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [mib, 0, 0, 0]}
    async with httpx.AsyncClient(transport=transport, timeout=90) as client:
        return await client.post(f"http://x/v2/models/{server.model}/infer", json={"inputs": [tensor]})


async def ask_until(server: ModelServer, stop: asyncio.Event, codes: list[int]) -> None:
    while not stop.is_set():
        codes.append((await infer(server, 0.0)).status_code)
        await asyncio.sleep(0.05)


async def enforcement(group: Cgroup) -> dict[str, Any]:
    """One model bloats past its limit and is replaced; the other one answers on."""
    events: list[RunnerEvent] = []
    codes: list[int] = []
    stop = asyncio.Event()
    limit = 100.0
    greedy = await serve(spec("greedy", hungry(), limit), group, events)
    modest = await serve(spec("modest", tiny.onnx_unary("Identity"), limit), group, events)
    first, neighbour = greedy.active, modest.active
    assert first is not None
    assert neighbour is not None
    (folder,) = group.folder.glob("runner-greedy-*")
    limits = {file: (folder / file).read_text().strip() for file in ("memory.max", "memory.oom.group")}
    asking = asyncio.create_task(ask_until(modest, stop, codes))
    with contextlib.suppress(httpx.HTTPError):  # its own connection is the one that may break
        await infer(greedy, 90.0)
    ended = await first.exited
    after = await infer(greedy, 0.0)
    stop.set()
    await asking
    result = {
        "limits": limits,
        "expected_limit": str(int((limit + SLACK_MIB) * 1024 * 1024)),
        "reason": [ended.signal, ended.reason.code, ended.reason.text],
        "events": [(event.kind, event.spec.model) for event in events],
        "neighbour": [codes, modest.active is neighbour and neighbour.alive],
        "after": after.status_code,
        "room": free_mib(),
        "service": await service_limit(greedy),
    }
    await asyncio.gather(greedy.stop(), modest.stop())
    result["left"] = sorted(path.name for path in group.folder.glob("runner-*"))
    result["children"] = len(psutil.Process().children())
    return result


async def service_limit(server: ModelServer) -> list[Any]:
    """The whole service is short of memory, the runner within its own limit: not the release's fault."""
    runner = server.active
    assert runner is not None
    used = int((SERVICE / "memory.current").read_text())
    (SERVICE / "memory.max").write_text(str(used + (12 << 20)))
    room = free_mib()
    with contextlib.suppress(httpx.HTTPError):
        await infer(server, 40.0)
    ended = await runner.exited
    (SERVICE / "memory.max").write_text("max")
    return [room, ended.reason.code]


def main() -> None:
    memory._SLOW_SECONDS = (
        600.0  # the supervisor's own watch looks away: here only the kernel keeps the limit
    )
    FOLDER.mkdir()
    result = {"delegation": delegation(), "user": delegation_to_a_user()}
    result["enforcement"] = asyncio.run(enforcement(Cgroup(SERVICE)))
    report(result)


if __name__ == "__main__":
    main()
