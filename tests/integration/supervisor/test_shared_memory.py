"""Registrations of shared memory outlive the runner that took them: swaps and crashes forget none."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
from msgspec.structs import replace

from agent.supervisor.model_server import ModelServer
from agent.supervisor.specs import RunnerSpec

SpecOf = Callable[[int], RunnerSpec]
X = np.arange(8, dtype=np.float32).reshape(2, 4)
SHM = Path("/dev/shm")
REQUEST = {
    "inputs": [
        {
            "name": "x",
            "datatype": "FP32",
            "shape": X.shape,
            "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": X.nbytes},
        }
    ]
}


@pytest.fixture
def key() -> Iterator[str]:
    key = f"edgeward-{uuid4().hex}"
    (SHM / key).write_bytes(X.tobytes())
    yield key
    (SHM / key).unlink()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    # A connection that is kept would have its next answer from the runner before.
    limits = httpx.Limits(max_keepalive_connections=0)
    transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "add.sock"), limits=limits)
    async with httpx.AsyncClient(transport=transport, base_url="http://unix", timeout=30) as client:
        yield client


async def infer(client: httpx.AsyncClient) -> int:
    """The release that answered."""
    answer = await client.post("/v2/models/add/infer", json=REQUEST)
    assert answer.status_code == 200, answer.text
    added = np.array(answer.json()["outputs"][0]["data"], np.float32).reshape(2, 4) - X
    assert (added == added[0, 0]).all()
    return int(added[0, 0])


def pid(server: ModelServer) -> int:
    return 0 if server.active is None else server.active.pid


async def test_registrations_survive_swaps_and_crashes(
    server: ModelServer, spec_of: SpecOf, client: httpx.AsyncClient, key: str
) -> None:
    def spec(release: int) -> RunnerSpec:
        return replace(spec_of(release), shared_memory="unix")

    await server.activate(await server.prepare(spec(1)))
    register = {"key": key, "byte_size": X.nbytes}
    answer = await client.post("/v2/systemsharedmemory/region/r/register", json=register)
    assert answer.status_code == 200, answer.text
    assert await infer(client) == 1
    for release in (2, 3):
        await server.activate(await server.prepare(spec(release)))
        async with asyncio.timeout(30):
            while await infer(client) != release:  # the runner before accepts until it hears that it may go
                pass
    killed = pid(server)
    os.kill(killed, signal.SIGKILL)
    async with asyncio.timeout(30):
        while pid(server) in {0, killed}:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
    assert await infer(client) == 3
    await client.post("/v2/systemsharedmemory/unregister")
    await server.activate(await server.prepare(spec(4)))
    assert (await client.get("/v2/systemsharedmemory/status")).json() == []
    assert (await client.post("/v2/models/add/infer", json=REQUEST)).status_code == 404
