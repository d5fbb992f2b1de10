"""A real agent, killed by strace at its n-th call of a kind while it takes an update from a hub over MQTT."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.protocol.state import FINAL_PHASES, DeploymentReport, Phase
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.power.device import STRACE, traced
from tests.fault.store.conftest import ACTIVE, NEXT, events, serves
from tests.support.counts import count

pytestmark = pytest.mark.skipif(
    STRACE is None, reason="MISSING TOOL: strace (apt install strace); no agent is killed in mid-update"
)
CALLS = ("fsync", "fdatasync", "rename", "unlink", "pwrite64", "write")
Point = tuple[str, int]
AFresh = Callable[[], AttackedDevice]


def killed_at(device: AttackedDevice, point: Point, log: Path) -> tuple[Phase, bool]:
    """Kill a fresh device at ``point`` of an update, start it again; how the update ended, and whether it got so far."""
    name, number = point
    device.start()
    serves(device, ACTIVE)
    order, deployment = device.order(NEXT)
    inject = f"inject={name}:signal=KILL:when={number}"
    with traced(device.pid, "-o", str(log), "-e", f"trace={name}", "-e", inject) as tracer:
        device.desire(order)
        wait_for(
            "its end or the update's",
            lambda: not alive(device) or ended(device, deployment),
            seconds=SECONDS,
            every=0.05,
        )
        tracer.terminate()
    killed = not alive(device)
    if killed:
        device.start()
    report = device.ends(order, deployment)
    examine(device, report)
    return report.phase, killed


def alive(device: AttackedDevice) -> bool:
    process = device.service.process
    return process is not None and process.poll() is None


def ended(device: AttackedDevice, deployment: str) -> bool:
    """As :meth:`AttackedDevice.ends` looks, of a device that may die at any moment."""
    try:
        found = device.deployment()
        if found is None or found.deployment != deployment:
            return False
        if found.phase is Phase.PROBATION:
            device.answer()
    except Exception:  # noqa: BLE001 - whatever it says with its last breath
        return False
    return found.phase in FINAL_PHASES and told_once(device, deployment)


def told_once(device: AttackedDevice, deployment: str) -> bool:
    outcomes = [each for each in events(device, "deployment-outcome") if each.deployment == deployment]
    assert len(outcomes) < 2
    return len(outcomes) == 1


def examine(device: AttackedDevice, report: DeploymentReport) -> None:
    if report.phase is Phase.COMMITTED:
        serves(device, NEXT)
    else:
        assert report.phase is Phase.ROLLED_BACK
        assert report.reason is not None
        assert report.reason.code == "interrupted"
        serves(device, ACTIVE)
    wait_for("its outcome", lambda: told_once(device, report.deployment), seconds=SECONDS, every=0.05)
    (started, *_) = events(device, "agent-started")
    assert started.severity == "info", started.text
    status = device.status().state
    assert status.problems == ()
    assert status.outbox.recorded == status.outbox.acknowledged + status.outbox.pending


def test_at_some_calls(fresh: AFresh, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    points: list[Point] = [("fsync", 7), ("rename", 6)]
    found = Counter(killed_at(fresh(), point, tmp_path / "log") for point in points)
    tell(request, "some", found)
    assert all(killed for _, killed in found)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_at_every_call(fresh: AFresh, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """strace counts each thread's calls apart, so the n-th call is that of the thread that comes to it first."""
    found: Counter[tuple[Phase, bool]] = Counter()
    for name in CALLS:
        step = {"pwrite64": 9, "write": 5}.get(name, 1)
        for number in range(1, 1000, step):
            result = killed_at(fresh(), (name, number), tmp_path / "log")
            found[result] += 1
            if not result[1]:
                break
    tell(request, "every", found)
    assert found[Phase.COMMITTED, True]
    assert found[Phase.ROLLED_BACK, True]


def tell(request: pytest.FixtureRequest, which: str, found: Counter[tuple[Phase, bool]]) -> None:
    killed = {phase: number for (phase, dead), number in found.items() if dead}
    count(
        request,
        f"a real agent killed at {which} fsync, rename and write",
        points=sum(killed.values()),
        committed=killed.get(Phase.COMMITTED, 0),
        rolled_back=killed.get(Phase.ROLLED_BACK, 0),
        serving=sum(killed.values()),
    )
