"""Runners that crash, one after the other, or never serve: clients are told why, and the server goes on."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from agent.core.restart import RestartPolicy
from agent.supervisor.errors import RunnerDiedError, RunnerTimeoutError
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from agent.supervisor.serving import RunnerEvent, ServerSettings
from agent.supervisor.specs import RunnerSpec
from tests.support.own_children import own_children

Peer = Callable[[str], tuple[str, ...]]
ServerOf = Callable[[str], ModelServer]

_SETTINGS = ServerSettings(
    accept_timeout_seconds=0.5,
    stop_seconds=0.5,
    outage_grace_seconds=0.0,
    restart=RestartPolicy(first_delay=0.01, longest_delay=0.1, loop_crashes=3),
)


@pytest.fixture
def events() -> asyncio.Queue[RunnerEvent]:
    return asyncio.Queue()


@pytest.fixture
async def server_of(
    peer: Peer, listeners: ModelListeners, events: asyncio.Queue[RunnerEvent]
) -> AsyncIterator[ServerOf]:
    servers: list[ModelServer] = []

    def make(fault: str) -> ModelServer:
        servers.append(
            ModelServer(listeners, settings=_SETTINGS, on_event=events.put_nowait, command=peer(fault))
        )
        servers[-1].start("no release is active yet")
        return servers[-1]

    yield make
    for server in servers:
        await server.stop()
    assert own_children() == []


async def _error(server: ModelServer) -> str:
    transport = httpx.AsyncHTTPTransport(uds=str(server.listeners.unix_path))
    async with httpx.AsyncClient(transport=transport, timeout=10) as client:
        answer = await client.get("http://localhost/v2/health/ready")
    assert answer.status_code == 503
    return str(answer.json()["error"])


async def test_a_crash_loop_is_named_slowed_down_and_told_to_clients(
    server_of: ServerOf, spec: RunnerSpec, events: asyncio.Queue[RunnerEvent]
) -> None:
    server = server_of("die-serving")
    await server.activate(await server.prepare(spec))
    deaths: list[RunnerEvent] = []
    async with asyncio.timeout(20):
        while not deaths or not deaths[-1].looping:
            event = await events.get()
            deaths += [event] if event.kind == "runner-died" else []
    assert [event.crashes for event in deaths] == [1, 2, 3]
    assert all("SIGKILL" in event.reason.text for event in deaths)
    assert "is being restarted" in await _error(server)


@pytest.mark.parametrize(
    ("fault", "error"), [("mute-accept", RunnerTimeoutError), ("die-accept", RunnerDiedError)]
)
async def test_a_candidate_that_can_t_serve_changes_nothing(
    fault: str, error: type[Exception], server_of: ServerOf, spec: RunnerSpec
) -> None:
    server = server_of(fault)
    candidate = await server.prepare(spec)
    with pytest.raises(error):
        await server.activate(candidate)
    assert server.active is None
    assert await _error(server) == "no release is active yet"
    await server.discard(candidate)


async def test_a_faulty_listener_to_events_does_not_stop_the_restart(
    peer: Peer, listeners: ModelListeners, spec: RunnerSpec
) -> None:
    heard: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.put_nowait(context))

    def broken(event: RunnerEvent) -> None:
        raise RuntimeError(event.kind)

    server = ModelServer(listeners, settings=_SETTINGS, on_event=broken, command=peer("die-serving"))
    await server.activate(await server.prepare(spec))
    async with asyncio.timeout(20):
        kinds = [str((await heard.get())["exception"]) for _ in range(2)]
    assert kinds == ["runner-died", "runner-restarted"]
    await server.stop()


_AGENT = """
import asyncio, pathlib, sys
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer

async def main():
    folder = pathlib.Path(sys.argv[1])
    listeners = await ModelListeners.open(
        "digits", unix_path=folder / "a.sock", private_folder=folder / "p", tcp=("127.0.0.1", int(sys.argv[2]))
    )
    server = ModelServer(listeners)
    server.start("no release is active yet")
    child = await asyncio.create_subprocess_exec("sleep", "30", stdout=asyncio.subprocess.DEVNULL, pass_fds=listeners.fds
    )
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_an_agent_starts_again_while_a_child_of_the_killed_one_still_holds_its_sockets(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _AGENT, str(tmp_path), str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    orphan = int(await process.stdout.readline())
    process.kill()
    await process.wait()
    opening = asyncio.create_task(
        ModelListeners.open(
            "digits",
            unix_path=tmp_path / "a.sock",
            private_folder=tmp_path / "p",
            tcp=("127.0.0.1", port),
            bind_timeout=10.0,
        )
    )
    await asyncio.sleep(0.2)
    assert not opening.done()
    os.kill(orphan, signal.SIGKILL)
    listeners = await opening
    assert listeners.tcp_address == ("127.0.0.1", port)
    listeners.close()
