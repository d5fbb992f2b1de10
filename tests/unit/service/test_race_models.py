"""Several models on one device: one that collects, or can't be opened, takes nothing from another."""

import asyncio
import hashlib
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from agent.config import AgentConfig, DeviceConfig
from agent.core.model_state import DeploymentState, ModelState
from agent.core.slots import InstalledRelease, Slots
from agent.protocol.state import Assignment, Phase, VariantPolicy
from agent.protocol.verification import ReleaseFile, VerifiedAssignment, VerifyResult
from agent.service.models import Models
from agent.service.recorder import TelemetryRecorder
from agent.service.wanted import Wanted
from agent.service.worker import state_key
from agent.store.artifacts import ArtifactStore
from agent.store.outbox import Recordable
from agent.supervisor.errors import AddressError
from agent.supervisor.listeners import ModelListeners


class Memory:
    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def put(self, key: str, value: bytes) -> None:
        self.values[key] = value

    def keep(self, state: ModelState) -> None:
        self.values[state_key(state.model)] = msgspec.json.encode(state)


class Shelf:
    async def append(self, *bodies: Recordable) -> tuple[int, ...]:
        return tuple(range(len(bodies)))

    async def newest(self, limit: int, *, model: str | None = None) -> list[Any]:
        return []


class Store(ArtifactStore):
    """The real one; a test may stop a collection between its look at what is needed and its taking."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, quota_bytes=2**30)
        self.collecting = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.broken = False

    def remove_unreferenced(self, keep: Collection[str]) -> list[str]:
        self.collecting.set()
        assert self.go_on.wait(10)
        if self.broken:
            raise OSError(30, "Read-only file system")
        return super().remove_unreferenced(keep)


class Installer:
    """Finds the release's file in the store, as a fetch that is resumed or repeated does."""

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        self.found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def install(
        self, wanted: VerifiedAssignment, tried: tuple[str, ...], progress: Callable[[int, int], None]
    ) -> InstalledRelease:
        self.found.set_result(self.store.has(wanted.manifest.sha256))
        await asyncio.Event().wait()
        raise AssertionError


def release_of(model: str, number: int, digest: str, deployment: str = "d1") -> InstalledRelease:
    return InstalledRelease(
        deployment=deployment,
        model=model,
        release=number,
        variant="int8",
        artifact=digest,
        manifest=digest,
        variant_policy=VariantPolicy.MOST_ACCURATE,
        files=(digest,),
    )


def undoing(model: str) -> ModelState:
    """Was rolling back its first release when the agent stopped: collects soon after the start."""
    run = DeploymentState(deployment="d1", model=model, release=1, phase=Phase.ROLLING_BACK, since=1.0)
    return ModelState(model=model, deployment=run)


class World:
    def __init__(self, folder: Path) -> None:
        self.memory, self.store = Memory(), Store(folder / "artifacts")
        self.installer = Installer(self.store)
        self.folder = folder
        self.tasks: list[asyncio.Task[None]] = []
        self.verified = VerifyResult()
        self.moved = asyncio.Event()
        self.models = Models(
            AgentConfig(
                device=DeviceConfig(
                    id="camera-1", hardware_class="cpu", runtime_dir=str(folder), state_dir=str(folder)
                )
            ),
            self.memory,
            self.store,
            cast(Any, self.installer),
            TelemetryRecorder(Shelf(), Shelf(), lambda _: None),
            runtimes=frozenset({"onnx"}),
            wanted=lambda: Wanted(verified=self.verified, hold=None),
            changed=self.moved.set,
            clock=lambda: 1.0,
            boot="boot",
        )

    def supervise(self, work: Any) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def phase(self, model: str, phase: Phase, *, reported: bool = False) -> None:
        async with asyncio.timeout(5):
            while not self._stands(self.models.states()[model].deployment, phase, reported=reported):
                self.moved.clear()
                await self.moved.wait()

    def _stands(self, run: DeploymentState | None, phase: Phase, *, reported: bool) -> bool:
        return run is not None and run.phase is phase and not (reported and run.report_pending)

    async def end(self) -> None:
        self.store.go_on.set()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.models.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ew") as path:  # a Unix socket's path is short
        yield Path(path)


async def test_a_collection_right_after_the_start_spares_models_that_are_still_being_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(folder)
    digest = world.store.add(b"the active model of the second")
    world.memory.keep(undoing("aa"))
    active = release_of("zz", 1, digest)
    world.memory.keep(
        ModelState(model="zz", slots=Slots(active=active, floor=1, committed=(1,)), ended=("d1",))
    )
    really = ModelListeners.open

    async def slow_for_the_second(model: str, **how: Any) -> ModelListeners:
        if model == "zz":  # as where a TCP port is still held by the runner of an earlier agent
            await asyncio.to_thread(world.store.collecting.wait, 0.5)
        return await really(model, **how)

    monkeypatch.setattr(ModelListeners, "open", slow_for_the_second)
    await world.models.add(["aa", "zz"], world.supervise)
    await world.phase("aa", Phase.ROLLED_BACK)
    await asyncio.to_thread(world.store.collecting.wait, 5)
    await world.end()
    assert world.store.has(digest), "what the second model serves was collected"


async def test_a_collection_under_way_takes_nothing_that_a_new_fetch_finds(folder: Path) -> None:
    world = World(folder)
    digest = world.store.add(b"left by an earlier run, wanted again")
    assert digest == hashlib.sha256(b"left by an earlier run, wanted again").hexdigest()
    world.memory.keep(undoing("aa"))
    world.store.go_on.clear()
    await world.models.add(["aa", "zz"], world.supervise)
    await asyncio.to_thread(world.store.collecting.wait, 5)  # "aa" collects, and nobody fetches
    manifest = ReleaseFile(filename="manifest.json", sha256=digest, size=1)
    wanted = VerifiedAssignment(
        model="zz", release=1, assignment=Assignment(deployment="d1"), manifest=manifest, files=(manifest,)
    )
    world.verified = VerifyResult(assignments=(wanted,))
    world.models.reconsider()
    await world.phase("zz", Phase.FETCHING)
    for _ in range(10):
        await asyncio.sleep(0)
    early = world.installer.found.done()
    world.store.go_on.set()
    found = await asyncio.wait_for(world.installer.found, 5)
    still_there = world.store.has(digest)
    await world.end()
    assert not early, "the fetch looked at the store while artifacts were being taken from it"
    assert found == still_there


async def test_a_collection_that_fails_ends_nothing(folder: Path) -> None:
    world = World(folder)
    world.store.broken = True
    world.memory.keep(undoing("aa"))
    await world.models.add(["aa"], world.supervise)
    await world.phase("aa", Phase.ROLLED_BACK, reported=True)
    assert not world.tasks[0].done()
    await world.end()


async def test_a_model_whose_socket_cant_be_opened_keeps_no_other_from_its_work(folder: Path) -> None:
    world = World(folder)
    (folder / "models" / "aa.sock").mkdir(parents=True)
    with pytest.raises(AddressError):
        await world.models.add(["aa", "zz"], world.supervise)
    assert set(world.models.states()) == {"zz"}
    assert len(world.tasks) == 1
    await world.end()
