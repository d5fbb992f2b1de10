"""The supervisor with the real runner, a real model, and unmodified clients."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http
from msgspec.structs import replace

from agent.protocol.codec import encode_json
from agent.protocol.drift import DriftPolicy, DriftReference, SignalReference
from agent.protocol.runner import WindowClosed
from agent.supervisor.errors import ProbeFailedError, RunnerDiedError, RunnerError, RunnerStartError
from agent.supervisor.model_server import ModelServer
from agent.supervisor.serving import RunnerEvent, ServerSettings
from agent.supervisor.specs import RunnerSpec
from tests.support.own_children import own_children

SpecOf = Callable[[int], RunnerSpec]
GoldenOf = Callable[[int], Path]


class Clients:
    """Unmodified tritonclients, each in a thread of its own with one persistent connection, asking until stopped."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self.url = f"{address[0]}:{address[1]}"
        self.answers: list[int] = []
        """The release that answered, in order."""
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        client = tritonclient.http.InferenceServerClient(
            self.url, network_timeout=30.0, connection_timeout=30.0
        )
        while not self._stop.is_set():
            try:
                self.answers.append(infer(client))
            except Exception as error:  # noqa: BLE001 - whatever a client can run into is what is counted here
                self.errors.append(error)
        client.close()

    async def some_more(self, count: int = 50) -> None:
        """Wait for this many further answers."""
        wanted = len(self.answers) + count
        async with asyncio.timeout(30):
            while len(self.answers) < wanted:  # noqa: ASYNC110 - the answers come from threads
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)


def infer(client: Any) -> int:
    """Ask for 0 + n: the answer is the release."""
    tensor = tritonclient.http.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
    values = client.infer("add", [tensor]).as_numpy("y")
    assert len(set(values[0])) == 1
    return int(values[0][0])


def address_of(server: ModelServer) -> tuple[str, int]:
    address = server.listeners.tcp_address
    assert address is not None
    return address


async def ask(server: ModelServer) -> int:
    def once() -> int:
        host, port = address_of(server)
        with tritonclient.http.InferenceServerClient(f"{host}:{port}", network_timeout=30.0) as client:
            return infer(client)

    return await asyncio.to_thread(once)


def move(old: str, new: str) -> None:
    Path(old).rename(new)


async def get(path: Path, url: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), timeout=30) as client:
        return await client.get(f"http://localhost{url}")


@pytest.fixture
async def serving(server: ModelServer, spec_of: SpecOf) -> ModelServer:
    """Release 1 is active."""
    await server.activate(await server.prepare(spec_of(1)))
    return server


async def test_a_candidate_answers_on_its_own_socket_and_nowhere_else(
    server: ModelServer, spec_of: SpecOf
) -> None:
    candidate = await server.prepare(spec_of(1))
    assert candidate.loaded is not None
    assert candidate.loaded.backend.startswith("onnxruntime")
    assert (await get(candidate.private_path, "/v2/health/ready")).status_code == 200
    public = await get(server.listeners.unix_path, "/v2/health/ready")
    assert (public.status_code, public.json()) == (503, {"error": "no release of add is active yet"})
    await server.discard(candidate)
    assert not candidate.private_path.exists()


async def test_a_probe_measures_what_the_runner_says_and_what_it_takes(
    server: ModelServer, spec_of: SpecOf, golden_of: GoldenOf
) -> None:
    candidate = await server.prepare(spec_of(1))
    probed = await candidate.probe(golden_of(1), warmup=5, repetitions=100, timeout_seconds=30)
    assert probed.report.golden_max_error == 0.0
    assert probed.report.golden_class_agreement == 1.0
    assert 0 < probed.report.p50_ms <= probed.report.p99_ms < 1_000
    now = candidate.memory_mib()
    assert now is not None
    assert 15 < now <= probed.peak_pss_mib + 1
    assert probed.peak_pss_mib < 300


async def test_another_release_misses_the_golden_vectors(
    server: ModelServer, spec_of: SpecOf, golden_of: GoldenOf
) -> None:
    candidate = await server.prepare(spec_of(1))
    probed = await candidate.probe(golden_of(3), warmup=1, repetitions=10, timeout_seconds=30)
    assert probed.report.golden_max_error == 2.0


async def test_a_probe_without_golden_vectors_fails_with_the_runner_s_reason(
    server: ModelServer, spec_of: SpecOf, tmp_path: Path
) -> None:
    candidate = await server.prepare(spec_of(1))
    with pytest.raises(ProbeFailedError, match="golden-unreadable"):
        await candidate.probe(tmp_path / "none", warmup=1, repetitions=10, timeout_seconds=30)
    assert candidate.alive


async def test_a_file_that_is_no_model_does_not_start(
    server: ModelServer, spec_of: SpecOf, tmp_path: Path
) -> None:
    (tmp_path / "none.onnx").write_bytes(b"not a model")
    with pytest.raises(RunnerStartError) as caught:
        await server.prepare(replace(spec_of(1), artifact_path=str(tmp_path / "none.onnx")))
    assert caught.value.text
    assert own_children() == []


async def test_a_memory_limit_below_what_a_runner_needs_is_a_refusal(
    server: ModelServer, spec_of: SpecOf, golden_of: GoldenOf
) -> None:
    async def prove() -> None:
        candidate = await server.prepare(replace(spec_of(1), memory_limit_mib=12.0))
        await candidate.probe(golden_of(1), warmup=1, repetitions=10, timeout_seconds=30)

    with pytest.raises(RunnerError) as caught:
        await prove()
    assert caught.value.code == "memory-over-budget"


async def test_the_first_activation_ends_the_503(serving: ModelServer) -> None:
    assert await ask(serving) == 1
    assert (await get(serving.listeners.unix_path, "/v2/health/ready")).status_code == 200
    assert serving.unavailable_because is None


async def test_swaps_under_load_fail_no_request(serving: ModelServer, spec_of: SpecOf) -> None:
    clients = Clients(address_of(serving), 3)
    try:
        await clients.some_more()
        for release in range(2, 7):
            candidate = await serving.prepare(replace(spec_of(release), memory_limit_mib=300.0))
            await serving.activate(candidate)
            await clients.some_more()
        await serving.drained()
        await clients.some_more()
    finally:
        await clients.stop()
    assert clients.errors == []
    assert sorted(set(clients.answers)) == [1, 2, 3, 4, 5, 6]
    assert set(clients.answers[-10:]) == {6}
    assert [each.pid for each in own_children()] == [serving.active and serving.active.pid]


async def test_a_killed_runner_is_replaced_and_only_its_own_connections_notice(
    serving: ModelServer, events: list[RunnerEvent]
) -> None:
    clients = Clients(address_of(serving), 3)
    try:
        await clients.some_more()
        before = serving.active
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        await before.exited
        await clients.some_more()
    finally:
        await clients.stop()
    assert serving.active is not before
    assert serving.ready
    assert len(clients.errors) <= 3, clients.errors
    assert [event.kind for event in events] == ["runner-died", "runner-restarted"]
    assert "SIGKILL" in events[0].reason.text
    assert (events[0].crashes, events[0].looping) == (1, False)


class TestALongOutage:
    @pytest.fixture
    def settings(self, settings: ServerSettings) -> ServerSettings:
        policy = replace(settings.restart, first_delay=1.0)
        return replace(settings, outage_grace_seconds=0.0, restart=policy)

    async def test_is_told_to_clients_and_ends(self, serving: ModelServer, events: list[RunnerEvent]) -> None:
        assert serving.active is not None
        os.kill(serving.active.pid, signal.SIGKILL)
        await serving.active.exited
        answer = await get(serving.listeners.unix_path, "/v2/models/add/ready")
        assert answer.status_code == 503
        assert "release 1 is being restarted" in answer.json()["error"]
        async with asyncio.timeout(20):
            while serving.unavailable_because is not None:  # noqa: ASYNC110 - seen as a client does
                await asyncio.sleep(0.02)
        assert await ask(serving) == 1

    async def test_ends_when_another_release_is_activated(
        self, serving: ModelServer, spec_of: SpecOf, events: list[RunnerEvent]
    ) -> None:
        candidate = await serving.prepare(spec_of(2))
        assert serving.active is not None
        os.kill(serving.active.pid, signal.SIGKILL)
        await serving.active.exited
        await serving.activate(candidate)
        assert await ask(serving) == 2
        assert serving.unavailable_because is None
        assert [event.kind for event in events] in ([], ["runner-died"])


async def test_a_candidate_that_died_leaves_the_active_one_serving(
    serving: ModelServer, spec_of: SpecOf
) -> None:
    candidate = await serving.prepare(spec_of(2))
    os.kill(candidate.pid, signal.SIGKILL)
    await candidate.exited
    with pytest.raises(RunnerDiedError, match="SIGKILL"):
        await serving.activate(candidate)
    assert await ask(serving) == 1
    assert serving.active is not None
    os.kill(serving.active.pid, signal.SIGKILL)  # and it is still watched
    await serving.active.exited
    assert await ask(serving) == 1


async def test_a_cancelled_activation_is_finished(serving: ModelServer, spec_of: SpecOf) -> None:
    candidate = await serving.prepare(spec_of(2))
    activating = asyncio.create_task(serving.activate(candidate))
    await asyncio.sleep(0)
    activating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await activating
    await serving.activate(candidate)  # the same command again
    assert serving.active is candidate
    assert await ask(serving) == 2


async def test_going_back_is_a_swap_too(serving: ModelServer, spec_of: SpecOf) -> None:
    await serving.activate(await serving.prepare(spec_of(2)))
    await serving.activate(await serving.prepare(spec_of(1)))
    assert await ask(serving) == 1


async def test_discarding_the_active_one_does_nothing(serving: ModelServer) -> None:
    assert serving.active is not None
    await serving.discard(serving.active)
    assert await ask(serving) == 1


async def test_deactivating_answers_503_with_the_reason(serving: ModelServer) -> None:
    await serving.deactivate("release 1 was rolled back and there is none before it")
    await serving.drained()
    assert own_children() == []
    answer = await get(serving.listeners.unix_path, "/v2/health/ready")
    assert answer.status_code == 503
    assert "rolled back" in answer.json()["error"]


async def test_stopping_leaves_nothing(serving: ModelServer, spec_of: SpecOf, tmp_path: Path) -> None:
    await serving.prepare(spec_of(2))
    await serving.stop()
    assert own_children() == []
    assert not (tmp_path / "add.sock").exists()
    assert list((tmp_path / "slots").iterdir()) == []


async def test_statistics_and_memory_of_the_active_runner_are_there(serving: ModelServer) -> None:
    await ask(serving)
    runner = serving.active
    assert runner is not None
    async with asyncio.timeout(10):
        while runner.statistics is None:  # noqa: ASYNC110 - pushed once a second
            await asyncio.sleep(0.02)
    assert (runner.statistics.requests, runner.statistics.failures) == (1, 0)


class TestWithAnImpatientPolicy:
    @pytest.fixture
    def settings(self, settings: ServerSettings) -> ServerSettings:
        policy = replace(settings.restart, first_delay=0.05, longest_delay=0.1)
        return replace(settings, outage_grace_seconds=0.0, restart=policy)

    async def test_a_restart_that_fails_is_tried_again_until_it_works(
        self, serving: ModelServer, spec_of: SpecOf, events: list[RunnerEvent]
    ) -> None:
        artifact = spec_of(1).artifact_path
        move(artifact, f"{artifact}.aside")
        assert serving.active is not None
        os.kill(serving.active.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while len(events) < 3:  # noqa: ASYNC110 - seen as the list fills
                await asyncio.sleep(0.02)
            assert [event.kind for event in events] == ["runner-died"] * 3
            assert artifact in events[1].reason.text
            assert artifact in str(serving.unavailable_because)
            move(f"{artifact}.aside", artifact)
            while not serving.ready:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
        assert await ask(serving) == 1


def drift_reference(tmp_path: Path, policy: DriftPolicy) -> str:
    """Every ``x`` of these tests lies in its first bin, which held half of the reference."""
    signal_reference = SignalReference(
        name="x-mean",
        source="input",
        tensor="x",
        summary="mean",
        edges=(-1.0, 0.5, 1.0),
        counts=(0, 50, 50, 0),
        missing=0,
    )
    reference = DriftReference(
        schema=1, dataset_sha256="0" * 64, rows=100, signals=(signal_reference,), policy=policy
    )
    path = tmp_path / "reference.json"
    path.write_bytes(encode_json(reference))
    return str(path)


async def test_an_open_drift_window_reaches_the_callback_when_its_runner_is_replaced(
    server: ModelServer, spec_of: SpecOf, tmp_path: Path, windows: list[WindowClosed]
) -> None:
    path = drift_reference(tmp_path, DriftPolicy())
    await server.activate(await server.prepare(replace(spec_of(1), reference_path=path)))
    await ask(server)
    await ask(server)
    await server.activate(await server.prepare(spec_of(2)))
    await server.drained()
    (closed,) = windows
    assert (closed.window.release, closed.window.rows, closed.window.verdict.level) == (
        1,
        2,
        "insufficient data",
    )
    assert closed.window.signals["x-mean"].counts == (0, 2, 0, 0)
    assert closed.signals["x-mean"].rows == 2


async def test_an_alarm_is_raised_across_the_death_of_a_runner(
    server: ModelServer, spec_of: SpecOf, tmp_path: Path, windows: list[WindowClosed]
) -> None:
    path = drift_reference(tmp_path, DriftPolicy(window_rows=50, minimum_rows=50, persistence=2))
    await server.activate(await server.prepare(replace(spec_of(1), reference_path=path)))

    async def fill_a_window() -> WindowClosed:
        before = len(windows)
        async with asyncio.timeout(30):
            for _ in range(50):
                await ask(server)
            while len(windows) == before:  # noqa: ASYNC110 - seen as the list fills
                await asyncio.sleep(0.02)
        return windows[-1]

    first = await fill_a_window()
    assert server.active is not None
    os.kill(server.active.pid, signal.SIGKILL)
    died = server.active
    async with asyncio.timeout(30):
        while server.active is died or not server.ready:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
    second = await fill_a_window()
    assert [one.window.verdict.level for one in (first, second)] == ["drift", "drift"]
    alarms = [one.window.alarm for one in (first, second)]
    assert [(alarm.level, alarm.windows) for alarm in alarms if alarm] == [("ok", 1), ("drift", 1)]
