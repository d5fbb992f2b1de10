"""A committed release with a slow and a fast variant, served by the real executor, server and runners."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import numpy as np
from msgspec.structs import replace

from agent.config import AgentConfig, DeviceConfig, ProbeConfig, ServingConfig
from agent.core.restart import RestartPolicy
from agent.core.slots import InstalledRelease, StandbyVariant
from agent.protocol.drift import DriftPolicy, DriftReference, SignalReference
from agent.protocol.golden import GoldenVectors, Tensor
from agent.protocol.manifest import (
    ArtifactRef,
    Budget,
    GoldenRef,
    Probation,
    ServiceLevel,
    TensorSpec,
    Variant,
)
from agent.protocol.runner import Statistics
from agent.protocol.state import ShadowPolicy, VariantPolicy
from agent.protocol.telemetry import Event
from agent.service.executor import ModelExecutor
from agent.service.installer import read_manifest
from agent.service.mending import Mender
from agent.service.surroundings import Surroundings
from agent.store.artifacts import ArtifactStore
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from agent.supervisor.runner_process import RunnerCallbacks, RunnerProcess
from agent.supervisor.serving import RunnerEvent, ServerSettings
from tests.contract.protocol.samples import MANIFEST
from tests.contract.runner.tiny_models import onnx_busy, onnx_unary
from tests.unit.service.world import ListRecorder

CLASS = "cpu-test"
ACCURATE, SMALL = "onnx-accurate", "onnx-small"
TENSOR_IN = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
TENSOR_OUT = TensorSpec(name="y", datatype="FP32", shape=(-1, 4))
SLO = ServiceLevel(p99_ms=50.0, maximum_failure_rate=0.0, minimum_requests=10, seconds=3.0)
TOO_SLOW = 0.12
"""Seconds: what each of two clients then waits for is well over the service level, on a box that others use too."""
DEADLINE = 60.0


class Device:
    """One model of one device; the release's accurate variant takes as long as its input says, the small one never long."""

    def __init__(self, folder: Path, *, slo: ServiceLevel | None = SLO, standby_works: bool = True) -> None:
        self.folder = folder
        self.recorder = ListRecorder()
        self.artifacts = ArtifactStore(folder / "artifacts", quota_bytes=2**24)
        self.config = AgentConfig(
            device=DeviceConfig(id="camera-1", hardware_class=CLASS),
            serving=ServingConfig(
                degrade_after_seconds=0.5,
                restore_after_seconds=1.0,
                drain_seconds=5.0,
                memory_reserve_mib=1.0,
            ),
            probe=ProbeConfig(warmup=5, repetitions=50),
        )
        self.release = self._install(1, slo, standby_works=standby_works)
        self.changes = 0
        self.mender: Mender | None = None

    async def start(self) -> None:
        listeners = await ModelListeners.open(
            "busy", unix_path=self.folder / "busy.sock", private_folder=self.folder / "private"
        )
        self.server = ModelServer(
            listeners,
            settings=ServerSettings(
                drain_seconds=5.0,
                outage_grace_seconds=20.0,
                memory_reserve_mib=1.0,
                restart=RestartPolicy(first_delay=0.02),
            ),
            callbacks=RunnerCallbacks(statistics=self._answered),
            on_event=self._runner_event,
        )
        self.server.start("nothing is active yet")
        around = Surroundings(
            config=self.config,
            artifacts=self.artifacts,
            runtimes=frozenset({"onnx"}),
            recorder=self.recorder,
            collect=lambda: asyncio.sleep(0),
            changed=self._changed,
            clock=lambda: 1_700_000_000.0,
            mender=self.mender,
        )
        self.executor = ModelExecutor(self.server, cast(Any, None), around)

    def _answered(self, runner: RunnerProcess, statistics: Statistics) -> None:
        self.executor.answered(runner, statistics)

    def _runner_event(self, event: RunnerEvent) -> None:
        self.executor.runner_event(event)

    def _changed(self) -> None:
        self.changes += 1

    async def stop(self) -> None:
        await self.executor.close()
        await self.server.stop()

    def _install(self, number: int, slo: ServiceLevel | None, *, standby_works: bool) -> InstalledRelease:
        x = np.arange(32, dtype=np.float32).reshape(8, 4)
        y = Tensor(name="y", datatype="FP32", shape=(8, 4), data=x.tobytes())
        golden = GoldenVectors(
            inputs=(Tensor(name="x", datatype="FP32", shape=(8, 4), data=x.tobytes()),),
            expected={ACCURATE: (y,), SMALL: (y,)},
        )
        signal = SignalReference(
            name="x-mean",
            source="input",
            tensor="x",
            summary="mean",
            edges=(0.0, 1.0),
            counts=(0, 100, 0),
            missing=0,
        )
        reference = DriftReference(
            schema=1, dataset_sha256="0" * 64, rows=100, signals=(signal,), policy=DriftPolicy()
        )
        accurate = self._ref("accurate.onnx", onnx_busy(None))
        small = self._ref("small.onnx", onnx_unary("Identity" if standby_works else "Neg"))
        manifest = replace(
            MANIFEST,
            model="busy",
            release=number,
            inputs=(TENSOR_IN,),
            outputs=(TENSOR_OUT,),
            variants=(_variant(ACCURATE, accurate, 0.99), _variant(SMALL, small, 0.9)),
            budgets={CLASS: Budget(p99_ms=10.0, peak_memory_mib=400.0, slo=slo)},
            golden=GoldenRef(
                artifact=self._ref("golden.msgpack", msgspec.msgpack.encode(golden)),
                absolute_tolerance=1e-5,
                minimum_class_agreement=1.0,
            ),
            drift_reference=self._ref("reference.json", msgspec.json.encode(reference)),
        )
        stored = self._ref("manifest.json", msgspec.json.encode(manifest))
        return InstalledRelease(
            deployment=f"d{number}",
            model="busy",
            release=number,
            variant=ACCURATE,
            artifact=accurate.sha256,
            manifest=stored.sha256,
            variant_policy=VariantPolicy.MOST_ACCURATE,
            files=(stored.sha256, accurate.sha256, small.sha256),
            standby=StandbyVariant(variant=SMALL, artifact=small.sha256),
        )

    def _ref(self, name: str, data: bytes) -> ArtifactRef:
        self.artifacts.add(data)
        return ArtifactRef(filename=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    def another(self, number: int) -> InstalledRelease:
        return self._install(number, SLO, standby_works=True)

    @property
    def serves(self) -> str | None:
        return None if self.server.active is None else self.server.active.spec.variant

    def events(self, *kinds: str) -> list[Event]:
        return [
            body
            for body in self.recorder.bodies
            if isinstance(body, Event) and (not kinds or body.kind in kinds)
        ]

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not happened():  # noqa: ASYNC110 - what is waited for happens in processes and threads
                await asyncio.sleep(0.02)


def _variant(name: str, artifact: ArtifactRef, accuracy: float) -> Variant:
    return Variant(name=name, runtime="onnx", precision="fp32", artifact=artifact, accuracy=accuracy)


def candidate(
    device: Device, model: bytes, policy: ShadowPolicy | None = None, probation: Probation | None = None
) -> InstalledRelease:
    """Release 2, whose accurate variant is ``model``; its golden vectors hold no negative number."""
    manifest = read_manifest(device.artifacts.path(device.release.manifest))
    artifact = device._ref("candidate.onnx", model)
    variant = replace(manifest.variants[0], artifact=artifact)
    stored = device._ref(
        "manifest.json",
        msgspec.json.encode(
            replace(
                manifest,
                release=2,
                variants=(variant, *manifest.variants[1:]),
                probation=probation or manifest.probation,
            )
        ),
    )
    return replace(
        device.release,
        deployment="d2",
        release=2,
        variant=ACCURATE,
        artifact=artifact.sha256,
        manifest=stored.sha256,
        files=(stored.sha256, artifact.sha256),
        standby=None,
        shadow=policy,
    )


class Clients:
    """Clients with a persistent connection each, asking until stopped; :attr:`turns` is how slow the accurate variant is."""

    def __init__(self, socket: Path, count: int = 2) -> None:
        self.turns = 1
        self.answers = 0
        self.wrong: list[str] = []
        """Answers that were not 200 and right, and connections that failed."""
        self._socket = str(socket)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with self._client() as client:
            while not self._stop.is_set():
                self._ask(client, self.turns)
                self._stop.wait(0.003)

    def _client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=self._socket)
        return httpx.Client(transport=transport, base_url="http://device", timeout=30.0)

    def _ask(self, client: httpx.Client, turns: int) -> None:
        row = [turns, 0, 0, 0]
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": row}]}
        try:
            answer = client.post("/v2/models/busy/infer", json=body)
            if answer.status_code != httpx.codes.OK or answer.json()["outputs"][0]["data"] != row:
                self.wrong.append(f"{answer.status_code}: {answer.text}")
        except httpx.HTTPError as error:
            self.wrong.append(repr(error))
        self.answers += 1

    async def slow_down(self) -> None:
        """Ask for so many turns of the accurate variant's loop that one answer takes :data:`TOO_SLOW`, measured now."""
        self.turns = await asyncio.to_thread(self._turns_for, TOO_SLOW)

    def _turns_for(self, seconds: float) -> int:
        trial = 2_000
        with self._client() as client:
            self._ask(client, 1)
            began = time.perf_counter()
            self._ask(client, trial)
            return round(trial * seconds / (time.perf_counter() - began))

    async def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
