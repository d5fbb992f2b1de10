"""What is remembered of bundles, and for how long; the verifier follows a script, everything else is real."""

import asyncio
import hashlib
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.core.model_state import DeploymentState, ModelState
from agent.protocol.bundle import BundleOrder
from agent.protocol.control import BundleReport
from agent.protocol.state import DeploymentReport, Phase, Reason
from agent.protocol.verification import VerifyResult
from agent.service.bundle_copy import BundleCopier
from agent.service.bundles import Bundles
from agent.service.control_server import ControlError
from agent.service.desired import DesiredKeeper
from agent.service.downloads import ArtifactDownloader
from agent.store.artifacts import ArtifactStore
from agent.store.trust_db import TrustState
from tests.support.bundles import bundle_of, index_of
from tests.unit.cloud_hub.sample_release import release_files
from tests.unit.service.test_bundle_copy import World as Stick
from tests.unit.service.test_bundle_copy import choose
from tests.unit.service.world import ListRecorder, MemoryState, assigned

ROOT = b"root of trust"
OLDER = VerifyResult(refusal=Reason(code="rollback-attack", text="timestamp: version 3 is older than 4"))


class Site:
    """A device as far as bundles know it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stick = Stick(folder)
        self.state = MemoryState()
        self.recorder = ListRecorder()
        self.counted: list[str] = []
        self.answers: list[VerifyResult] = []
        self.models: dict[str, ModelState] = {}
        self.reports: list[DeploymentReport] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.start()

    def start(self) -> None:
        self.desired = DesiredKeeper(
            "camera-1", self, self.verify, self.fetch, changed=lambda: None, count=self.counted.append
        )
        store = ArtifactStore(self.folder / "artifacts", quota_bytes=2**24)
        self.bundles = Bundles(
            "camera-1",
            self.desired,
            self,
            BundleCopier(ArtifactDownloader({}, store), store, choose),
            self.state,
            self.recorder,
            states=lambda: self.models,
            reports=lambda: tuple(self.reports),
            write_receipt=self.write,
            supervise=self.supervise,
            clock=lambda: 5.0,
            count=self.counted.append,
        )

    async def load(self) -> TrustState:
        return TrustState(root=ROOT, metadata={}, marks=(), hub_time=0.0)

    async def apply(self, _result: VerifyResult) -> None:
        pass

    async def fetch(self, _name: str, _most: int) -> Any:
        raise AssertionError("nobody asks the network")

    async def verify(self, *_: Any) -> VerifyResult:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def write(
        self, bundle: str, deployments: tuple[DeploymentReport, ...], refusal: Reason | None
    ) -> str:
        return f"{bundle[:4]} {[each.phase.value for each in deployments]} {refusal and refusal.code}"

    def supervise(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def make(self, *, devices: tuple[str, ...] = ("camera-1",), root: bytes = ROOT) -> None:
        files = {
            ("metadata", "1.root.json"): root,
            **{("director", name): b"{}" for name in devices},
            **{
                ("artifact", f"models/digits/1/{name}"): data
                for name, data in release_files().items()
                if name not in ("card.md", "evaluation.json", "bench.json")
            },
        }
        self.stick.bundle.write_bytes(bundle_of(index_of(files, devices=devices), files))

    async def hand_in(self) -> BundleReport:
        await self.bundles.install(os.open(self.stick.bundle, os.O_RDONLY))
        await asyncio.gather(*self.tasks)
        report = self.bundles.report()
        assert report is not None
        return report

    async def refused(self) -> str:
        report = await self.hand_in()
        assert report.stage == "refused"
        assert report.refusal is not None
        return f"{report.refusal.code}: {report.refusal.text}"

    def running(self, phase: Phase, deployment: str = "d-1") -> None:
        """The model's newest deployment, and what is said of it."""
        state = DeploymentState(deployment=deployment, model="digits", release=1, phase=phase, since=1.0)
        final = phase in (Phase.COMMITTED, Phase.ROLLED_BACK)
        before = self.models["digits"].ended if "digits" in self.models else ()
        self.models["digits"] = ModelState(
            model="digits", deployment=state, ended=(*before, deployment) if final else before
        )
        self.reports = [
            DeploymentReport(deployment=deployment, model="digits", release=1, phase=phase, since=1.0)
        ]

    def followed(self) -> VerifyResult | None:
        return self.desired.verified

    @property
    def good(self) -> VerifyResult:
        order = replace(self.stick.assignment.assignment, deployment="d-1")
        return VerifyResult(assignments=(replace(self.stick.assignment, assignment=order),))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.make()
    made.answers = [made.good]
    return made


async def test_what_was_taken_is_kept_until_its_last_deployment_has_ended(site: Site) -> None:
    assert (await site.hand_in()).stage == "taken"
    digest = hashlib.sha256(release_files()["onnx-int8.onnx"]).hexdigest()
    assert digest in site.bundles.pinned
    site.running(Phase.PROBATION)
    assert digest in site.bundles.pinned
    assert not (await site.bundles.receipt()).final
    site.running(Phase.COMMITTED)
    receipt = await site.bundles.receipt()
    assert (receipt.final, "['committed']" in receipt.envelope) == (True, True)
    assert site.bundles.pinned == frozenset()


async def test_an_outcome_stays_what_it_was_when_the_device_has_moved_on(site: Site) -> None:
    await site.hand_in()
    site.running(Phase.COMMITTED)
    await site.bundles.receipt()
    site.running(Phase.ROLLED_BACK)  # a technician took it back: no second outcome
    assert "['committed']" in (await site.bundles.receipt()).envelope
    site.running(Phase.PROBING, "d-2")
    assert "['committed']" in (await site.bundles.receipt()).envelope
    site.start()
    await site.bundles.load()
    assert "['committed']" in (await site.bundles.receipt()).envelope


async def test_orders_that_are_not_wanted_any_more_hold_nothing(site: Site) -> None:
    await site.hand_in()
    assert site.bundles.pinned
    site.desired.verified = VerifyResult(assignments=(assigned(9, "d-9"),))
    assert site.bundles.pinned == frozenset()
    assert (await site.bundles.receipt()).final


async def test_after_a_restart_its_orders_are_followed_without_asking_anyone(site: Site) -> None:
    await site.hand_in()
    site.start()
    await site.bundles.load()
    assert site.followed() is None
    assert site.bundles.pinned
    running = asyncio.create_task(site.bundles.run())
    async with asyncio.timeout(10):
        while site.followed() is None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert site.followed() == site.good


async def test_an_older_bundle_that_orders_what_is_wanted_still_is_of_use(site: Site) -> None:
    site.desired.verified = site.good
    site.answers = [OLDER]
    report = await site.hand_in()
    assert (report.stage, report.orders) == (
        "taken",
        (BundleOrder(model="digits", release=1, deployment="d-1"),),
    )
    assert report.total_bytes > 0


@pytest.mark.parametrize("wanted", [None, "another"])
async def test_an_older_bundle_that_orders_anything_else_is_refused(site: Site, wanted: str | None) -> None:
    if wanted:
        site.desired.verified = VerifyResult(assignments=(assigned(9, "d-9"),))
    site.answers = [OLDER]
    assert await site.refused() == (
        "rollback-attack: it is older than what this device has seen (timestamp: version 3 is older than 4)"
    )
    assert site.counted == ["bundle-refused"]
    assert site.bundles.pinned == frozenset()


async def test_something_newer_that_came_while_it_was_copied_wins(site: Site) -> None:
    site.answers = [site.good, OLDER]
    assert "older than what this device has seen" in await site.refused()
    assert site.desired.verified is None


async def test_another_hubs_bundle_is_refused_before_anything_in_it_is_looked_at(site: Site) -> None:
    site.make(root=b"another root")
    site.answers = []
    assert await site.refused() == (
        "wrong-hub: it was made by another hub (hub) than the one this device was enrolled with"
    )


async def test_another_devices_bundle_says_whose_it_is(site: Site) -> None:
    site.make(devices=tuple(f"till-{number}" for number in range(7)))
    site.answers = []
    said = await site.refused()
    assert (
        said
        == "wrong-device: it is for till-0, till-1, till-2, till-3, till-4 and 2 more; this device is camera-1"
    )


async def test_a_refusal_does_not_end_what_an_earlier_bundle_ordered(site: Site) -> None:
    await site.hand_in()
    site.make(root=b"another root")
    await site.refused()
    assert "wrong-hub" in (await site.bundles.receipt()).envelope
    site.start()
    await site.bundles.load()
    assert site.bundles.pinned
    site.make()
    assert (await site.hand_in()).stage == "taken"


async def test_one_at_a_time_and_no_descriptor_is_left(site: Site) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of an async test
    await site.bundles.install(os.open(site.stick.bundle, os.O_RDONLY))
    with pytest.raises(ControlError, match="another bundle is being copied"):
        await site.bundles.install(os.open(site.stick.bundle, os.O_RDONLY))
    with pytest.raises(ControlError, match="is being copied"):
        await site.bundles.receipt()
    await asyncio.gather(*site.tasks)
    with pytest.raises(ControlError, match="not a file"):
        await site.bundles.install(os.open(site.folder, os.O_RDONLY))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above


async def test_a_mistake_in_the_agent_is_a_refusal_and_not_its_end(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(BundleCopier, "copy", fail)
    assert "internal: the agent failed at it" in await site.refused()


async def test_a_disk_that_refuses_ends_neither_the_device_nor_what_is_known(site: Site) -> None:
    site.state.broken = OSError(28, "No space left on device")
    assert await site.refused() == "not-stored: this device can't keep it: [Errno 28] No space left on device"
    assert site.followed() is None
    site.state.broken = None
    assert (await site.hand_in()).stage == "taken"
    site.state.broken = OSError(28, "No space left on device")
    site.running(Phase.COMMITTED)
    assert "['committed']" in (await site.bundles.receipt()).envelope
    assert site.counted.count("bundle-not-remembered") == 2


async def test_notes_of_another_version_are_forgotten(site: Site) -> None:
    site.state.values["bundle"] = b'{"taken": 7}'
    await site.bundles.load()
    assert site.bundles.report() is None
    assert site.counted == ["bundle-forgotten"]


async def test_without_a_bundle_there_is_no_receipt(site: Site) -> None:
    with pytest.raises(ControlError, match="no bundle has been offered"):
        await site.bundles.receipt()
