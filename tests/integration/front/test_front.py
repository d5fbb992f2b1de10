"""One address for all models: an unmodified tritonclient through the front to real runners."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.http as triton
from msgspec.structs import replace

from agent.protocol.state import Reason
from agent.supervisor.device_address import NO_MODEL, DeviceAddress
from agent.supervisor.model_server import ModelServer
from tests.contract.runner import tiny_models as tiny
from tests.integration.front.conftest import OpenModel

T = TypeVar("T")
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def url(address: DeviceAddress) -> str:
    host, port = address.tcp_address
    return f"{host}:{port}"


def front_of(address: DeviceAddress) -> int | None:
    """Asked anew each time."""
    return address.front_pid


async def with_triton(address: DeviceAddress, ask: Callable[[triton.InferenceServerClient], T]) -> T:
    """In a thread, so that the supervisor's loop goes on."""

    def run() -> T:
        client = triton.InferenceServerClient(url(address), network_timeout=30.0, connection_timeout=30.0)
        try:
            return ask(client)
        finally:
            client.close()

    return await asyncio.to_thread(run)


def infer(client: triton.InferenceServerClient, model: str, **options: Any) -> np.ndarray:
    given = triton.InferInput("x", list(X.shape), "FP32")
    given.set_data_from_numpy(X)
    answer: np.ndarray = client.infer(model, [given], **options).as_numpy("y")
    return answer


@pytest.fixture
async def two(address: DeviceAddress, open_model: OpenModel) -> dict[str, ModelServer]:
    servers = {name: await open_model(name) for name in ("alpha", "beta")}
    await address.share(servers)
    return servers


async def get(address: DeviceAddress, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://{url(address)}{path}", timeout=30, **options)


async def post(address: DeviceAddress, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(f"http://{url(address)}{path}", timeout=30, **options)


async def test_each_model_answers_at_the_one_address(
    two: dict[str, ModelServer], address: DeviceAddress
) -> None:
    squeezed = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"}
    for model in two:
        for options in ({}, squeezed):
            answer = await with_triton(address, partial(infer, model=model, **options))
            np.testing.assert_allclose(answer, tiny.expected(X), rtol=1e-5)
    told = await with_triton(address, lambda client: client.get_model_metadata("beta"))
    assert told["name"] == "beta"


async def test_what_names_no_model_is_answered_for_all(
    two: dict[str, ModelServer], address: DeviceAddress
) -> None:
    await with_triton(address, lambda client: infer(client, "beta"))
    assert await with_triton(address, lambda client: client.is_server_live())
    assert await with_triton(address, lambda client: client.is_server_ready())
    server = await with_triton(address, lambda client: client.get_server_metadata())
    assert server["name"] == "edgeward"
    assert "binary_tensor_data" in server["extensions"]
    assert "system_shared_memory" not in server["extensions"]
    index = await with_triton(address, lambda client: client.get_model_repository_index())
    assert [each["name"] for each in index] == ["alpha", "beta"]
    counts = await with_triton(address, lambda client: client.get_inference_statistics())
    assert {each["name"]: each["inference_count"] for each in counts["model_stats"]} == {
        "alpha": 0,
        "beta": 2,
    }
    metrics = (await get(address, "/metrics")).text
    assert 'model="alpha"' in metrics
    assert 'model="beta"' in metrics
    types = [line for line in metrics.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) > 0


async def test_ready_means_every_model_and_says_which_is_not(
    address: DeviceAddress, open_model: OpenModel
) -> None:
    servers = {"alpha": await open_model("alpha"), "beta": await open_model("beta", active=False)}
    await address.share(servers)
    ready = await get(address, "/v2/health/ready")
    assert ready.status_code == 503
    assert ready.json()["error"] == "model beta: no release is committed on this device yet"
    assert (await get(address, "/v2/health/live")).status_code == 200
    assert (await get(address, "/v2/models/alpha/ready")).status_code == 200
    index = (await post(address, "/v2/repository/index")).json()
    assert [(each["name"], each["state"]) for each in index] == [("alpha", "READY"), ("beta", "UNAVAILABLE")]


async def test_what_cannot_be_done_is_said(two: dict[str, ModelServer], address: DeviceAddress) -> None:
    unknown = await get(address, "/v2/models/gamma/ready")
    assert (unknown.status_code, unknown.json()) == (
        404,
        {"error": "model 'gamma' is unknown; this device has: alpha, beta"},
    )
    lost = await get(address, "/v3")
    assert lost.status_code == 404
    assert "/v2/models/<model>/…" in lost.json()["error"]
    async with httpx.AsyncClient() as client:
        put = await client.put(f"http://{url(address)}/v2/models/alpha/infer")
    assert (put.status_code, put.headers["allow"]) == (405, "GET, POST")
    shared = await post(address, "/v2/systemsharedmemory/region/a/register", json={})
    assert shared.status_code == 400
    assert str(two["alpha"].listeners.unix_path) in shared.json()["error"]
    assert (await post(address, "/v2/cudasharedmemory/unregister")).status_code == 200
    bad = await post(address, "/v2/models/alpha/infer", json={"inputs": []})
    assert bad.status_code == 400
    assert "input 'x' is missing" in bad.json()["error"]
    load = await post(address, "/v2/repository/models/alpha/load")
    assert load.status_code >= 400
    assert "the hub governs" in load.json()["error"]
    page = await get(address, "/v2/health/live", headers={"origin": "http://evil.example"})
    assert page.status_code == 403


async def test_the_address_moves_from_nobody_to_the_only_model_to_the_front_without_a_failure(
    address: DeviceAddress, open_model: OpenModel
) -> None:
    nobody = await get(address, "/v2/models/alpha/ready")
    assert (nobody.status_code, nobody.json()) == (503, {"error": NO_MODEL})

    alpha = await open_model("alpha", alone=True)
    await address.share({"alpha": alpha})
    assert front_of(address) is None
    async with httpx.AsyncClient(base_url=f"http://{url(address)}", timeout=30) as kept:
        first = await kept.get("/v2/models/alpha/ready")
        assert (first.status_code, first.headers.get("connection")) == (200, None)

        stop = asyncio.Event()
        answers: list[int] = []

        async def ask() -> None:
            async with httpx.AsyncClient(base_url=f"http://{url(address)}", timeout=30) as client:
                while not stop.is_set():
                    tensor = {"name": "x", "datatype": "FP32", "shape": list(X.shape), "data": X.tolist()}
                    answer = await client.post("/v2/models/alpha/infer", json={"inputs": [tensor]})
                    answers.append(answer.status_code)

        clients = [asyncio.create_task(ask()) for _ in range(3)]
        beta = await open_model("beta")
        await address.share({"alpha": alpha, "beta": beta})
        assert front_of(address) is not None
        seen = len(answers)
        while len(answers) < seen + 50:  # noqa: ASYNC110 - other tasks count
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*clients)
        assert set(answers) == {200}

        last = await kept.get("/v2/models/alpha/ready")
        assert (last.status_code, last.headers.get("connection")) == (200, "close")
        assert (await kept.get("/v2/models/beta/ready")).status_code == 200  # a new connection: the front's


async def test_a_runner_is_swapped_behind_the_front_and_one_that_dies_is_replaced(
    two: dict[str, ModelServer], address: DeviceAddress
) -> None:
    alpha = two["alpha"]
    assert alpha.active is not None
    fresh = await alpha.prepare(replace(alpha.active.spec, release=4, deployment="d-2"))

    def swap_meanwhile(client: triton.InferenceServerClient) -> set[str]:
        given = triton.InferInput("x", list(X.shape), "FP32")
        given.set_data_from_numpy(X)
        seen: set[str] = set()
        for _ in range(2000):
            seen.add(client.infer("alpha", [given]).get_response()["model_version"])
            if "4" in seen:
                break
        return seen

    asking = asyncio.create_task(with_triton(address, swap_meanwhile))
    await asyncio.sleep(0.05)
    await alpha.activate(fresh)
    assert "4" in await asking
    os.kill(fresh.pid, signal.SIGKILL)
    await fresh.exited

    def infer_when_ready(client: triton.InferenceServerClient) -> np.ndarray:
        deadline = time.monotonic() + 30
        while not client.is_model_ready("alpha") and time.monotonic() < deadline:
            time.sleep(0.02)  # its successor loads
        return infer(client, "alpha")

    answer = await with_triton(address, infer_when_ready)
    np.testing.assert_allclose(answer, tiny.expected(X), rtol=1e-5)


async def test_a_front_that_dies_is_started_again_and_told(
    two: dict[str, ModelServer], address: DeviceAddress, deaths: list[Reason]
) -> None:
    killed = address.front_pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    answer = await with_triton(address, lambda client: infer(client, "beta"))  # waits in the listen queue
    np.testing.assert_allclose(answer, tiny.expected(X), rtol=1e-5)
    assert address.front_pid != killed
    assert [reason.code for reason in deaths] == ["front-died"]


async def test_no_front_stays_when_the_address_is_closed(
    two: dict[str, ModelServer], address: DeviceAddress
) -> None:
    pid = address.front_pid
    assert pid is not None
    await address.close()
    assert not psutil.pid_exists(pid)
    with pytest.raises(httpx.ConnectError):
        await get(address, "/v2/health/live")
