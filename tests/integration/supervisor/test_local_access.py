"""Walls between users of one device: real users, a real runner, its sockets."""

import asyncio
import grp
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.core.restart import RestartPolicy
from agent.protocol.access import Access, OutputLimits, QueryBudget
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from agent.supervisor.serving import RunnerEvent, ServerSettings
from agent.supervisor.specs import RunnerSpec

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="NEEDS ROOT: to become other users; walls between users are not tested"
)

SpecOf = Callable[[int], RunnerSpec]
ROBOT, STRANGER, AGENT = 64_001, 64_002, 64_003
"""Users who need no entry in /etc/passwd."""
GROUP = next(group for group in grp.getgrall() if group.gr_gid not in {0, os.getegid()})

ASK = """
import http.client, json, os, socket, sys
path, uid, groups, requests = json.loads(sys.argv[1])
os.setgroups(groups)
os.setgid(uid)
os.setuid(uid)
told = []
try:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    for method, target, body, headers in requests:
        connection.request(method, target, body=body, headers=headers)
        answer = connection.getresponse()
        told.append([answer.status, answer.read().decode(), answer.getheader("Retry-After")])
except OSError as error:
    told.append([0, error.strerror, None])
print(json.dumps(told))
"""

LISTEN = """
import asyncio, json, os, sys
from pathlib import Path
from agent.supervisor.errors import AddressError
from agent.supervisor.listeners import ModelListeners
folder, uid, group = json.loads(sys.argv[1])
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
async def listen():
    try:
        await ModelListeners.open(
            "add", unix_path=Path(folder) / "models" / "add.sock", private_folder=Path(folder) / "private", group=group
        )
    except AddressError as error:
        print(error)
asyncio.run(listen())
"""


class As:
    """One user of the device."""

    def __init__(self, uid: int, path: Path, *groups: int) -> None:
        self._about = (str(path), uid, groups)

    async def ask(self, *requests: tuple[str, str, str | None, dict[str, str]]) -> list[list[Any]]:
        """(status, body, Retry-After) of each, over one connection; status 0: the system's refusal."""
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ASK, json.dumps([*self._about, requests]), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
        told: list[list[Any]] = json.loads(output)
        return told

    async def infer(self, *rows: int, **headers: str) -> list[int]:
        """The status of a batch of so many rows each."""
        return [told[0] for told in await self.ask(*(batch(each, **headers) for each in rows))]


def batch(rows: int, **headers: str) -> tuple[str, str, str, dict[str, str]]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": [0.126] * 4 * rows}
    return "POST", "/v2/models/add/infer", json.dumps({"inputs": [tensor]}), headers


LIVE: tuple[str, str, None, dict[str, str]] = ("GET", "/v2/health/live", None, {})


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


Serve = Callable[..., Any]


@pytest.fixture
def runtime() -> Iterator[Path]:
    """As systemd makes it, and not below pytest's own folder, which only root may enter."""
    with tempfile.TemporaryDirectory(prefix="edgeward-access-") as folder:
        Path(folder).chmod(0o750)
        yield Path(folder)


@pytest.fixture
def events() -> list[RunnerEvent]:
    return []


@pytest.fixture
async def serve(runtime: Path, spec_of: SpecOf, events: list[RunnerEvent]) -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def opener(access: Access, **settings: Any) -> ModelServer:
            listeners = await ModelListeners.open(
                "add",
                unix_path=runtime / "models" / "add.sock",
                private_folder=runtime / "private",
                group=GROUP.gr_name,
                access=access,
                **settings,
            )
            server = ModelServer(
                listeners,
                settings=ServerSettings(drain_seconds=1.0, restart=RestartPolicy(first_delay=0.05)),
                on_event=events.append,
            )
            stack.push_async_callback(server.stop)
            await server.activate(await server.prepare(spec_of(1)))
            return server

        yield opener


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what a runner says is not an event here
            await asyncio.sleep(0.05)


async def test_a_member_of_the_group_is_answered_and_a_stranger_is_not(serve: Serve, runtime: Path) -> None:
    await serve(Access())
    path = runtime / "models" / "add.sock"
    assert path.stat().st_gid == GROUP.gr_gid
    assert mode_of(path) == 0o660
    member, stranger = As(ROBOT, path, GROUP.gr_gid), As(STRANGER, path)
    assert (await member.ask(LIVE))[0][0] == 200
    assert await stranger.ask(LIVE) == [[0, "Permission denied", None]]


async def test_a_member_gets_no_further_than_to_the_models_sockets(serve: Serve, runtime: Path) -> None:
    server: ModelServer = await serve(Access())
    assert mode_of(runtime) == 0o751, "to pass through, not to look around"
    assert server.active is not None
    private = As(ROBOT, server.active.private_path, GROUP.gr_gid)
    assert await private.ask(LIVE) == [[0, "Permission denied", None]]


def listen_as(uid: int, folder: Path, group: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", LISTEN, json.dumps([str(folder), uid, group])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_an_agent_that_is_no_member_is_told_what_to_do(runtime: Path) -> None:
    os.chown(runtime, AGENT, AGENT)
    told = listen_as(AGENT, runtime, GROUP.gr_name)
    assert f"serving.socket_group = {GROUP.gr_name!r}: {runtime}/models can't be given to it" in told
    assert f"usermod -aG {GROUP.gr_name}" in told


def test_a_group_that_is_not_there_is_refused(runtime: Path) -> None:
    told = listen_as(0, runtime, "no-such-group")
    assert "serving.socket_group = 'no-such-group': there is no such group on this device" in told


async def test_a_user_has_a_budget_of_rows_and_not_of_requests(serve: Serve, runtime: Path) -> None:
    server: ModelServer = await serve(Access(query_budget=QueryBudget(rows_per_hour=1, burst=10)))
    path = runtime / "models" / "add.sock"
    robot, other = As(ROBOT, path, GROUP.gr_gid), As(STRANGER, path, GROUP.gr_gid)
    told = await robot.ask(batch(6), batch(6), batch(4), batch(1), batch(11), LIVE)
    assert [status for status, *_ in told] == [200, 429, 200, 429, 413, 200]
    assert "query budget: 1 rows an hour, at most 10 at once" in told[1][1]
    assert 7_000 < int(told[1][2]) <= 7_200, "two rows are missing"
    assert await other.infer(10, 1) == [200, 429], "a bucket of its own"
    assert await As(0, path).infer(11) == [200], "who can read the file is kept from nothing"
    runner = server.active
    assert runner is not None
    await until(lambda: runner.statistics is not None and runner.statistics.refused >= 4)
    assert runner.statistics is not None
    assert runner.statistics.refused == 4


async def test_neither_a_swap_nor_a_crash_fills_a_bucket(
    serve: Serve, runtime: Path, spec_of: SpecOf, events: list[RunnerEvent]
) -> None:
    server: ModelServer = await serve(Access(query_budget=QueryBudget(rows_per_hour=1, burst=10)))
    robot = As(ROBOT, runtime / "models" / "add.sock", GROUP.gr_gid)
    assert await robot.infer(4) == [200]
    await server.activate(await server.prepare(spec_of(2)))
    assert await robot.infer(4, 4) == [200, 429]
    assert server.active is not None
    os.kill(server.active.pid, signal.SIGKILL)
    await until(lambda: any(event.kind == "runner-restarted" for event in events))
    assert await robot.infer(3, 2, 1) == [429, 200, 429]


async def test_nobody_hides_behind_the_header_of_the_front(serve: Serve, runtime: Path) -> None:
    await serve(Access(query_budget=QueryBudget(rows_per_hour=1, burst=10, tcp="shared")))
    path = runtime / "models" / "add.sock"
    assert await As(ROBOT, path, GROUP.gr_gid).infer(10, 1, **{"Edgeward-Forwarded": "1"}) == [200, 429]
    assert await As(0, path).infer(10, 1, **{"Edgeward-Forwarded": "1"}) == [200, 429], "the front's own user"
    assert await As(ROBOT, path, GROUP.gr_gid).infer(1) == [429]


@pytest.mark.parametrize(("tcp", "statuses"), [("refused", [403, 403]), ("shared", [200, 429])])
async def test_over_tcp_the_budget_cant_be_got_round(serve: Serve, tcp: Any, statuses: list[int]) -> None:
    budget = QueryBudget(rows_per_hour=1, burst=10, tcp=tcp)
    server: ModelServer = await serve(Access(query_budget=budget), tcp=("127.0.0.1", 0))
    host, port = server.listeners.tcp_address or ("", 0)
    _, target, body, _ = batch(6)
    told = []
    for _ in statuses:
        async with httpx.AsyncClient(trust_env=False) as client:
            told.append(await client.post(f"http://{host}:{port}{target}", content=body))
    assert [answer.status_code for answer in told] == statuses
    assert ("nobody knows who asks" in told[0].text) == (tcp == "refused")


async def test_outputs_are_told_as_the_policy_allows(serve: Serve, runtime: Path) -> None:
    await serve(Access(outputs=OutputLimits(decimals=1, top_k=2)))
    told = await As(0, runtime / "models" / "add.sock").ask(batch(1))
    assert json.loads(told[0][1])["outputs"][0]["data"] == pytest.approx([1.1, 1.1, 0, 0], abs=1e-6)
