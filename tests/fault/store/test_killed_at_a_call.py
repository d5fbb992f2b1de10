"""A real agent, killed by strace at its n-th call of a kind while it takes an update from a hub over MQTT."""

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import httpx
import pytest

from agent.cli.errors import CliError
from agent.protocol.state import FINAL_PHASES, DeploymentReport, Phase
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.power.device import STRACE, traced
from tests.fault.store.conftest import ACTIVE, NEXT, events, serves
from tests.support.counts import count

pytestmark = [
    pytest.mark.skipif(
        STRACE is None, reason="MISSING TOOL: strace (apt install strace); no agent is killed in mid-update"
    ),
    # httpcore does not close a Unix socket that nobody listens on any more.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LAST_BREATH = 3.0
"""Seconds after which a process is surely gone one of whose threads was killed."""
STEPS = {"fsync": 2, "fdatasync": 5, "rename": 2, "unlink": 3, "pwrite64": 31, "write": 15}
"""Call → every how many-th of it is a point of the soak."""
Point = tuple[str, int]
Killed = Literal["agent", "child", "nobody"]
"""``child``: strace follows children, so the verifier or a runner may come to the n-th call first."""
AFresh = Callable[[], AttackedDevice]


def killed_at(device: AttackedDevice, point: Point, log: Path) -> tuple[Phase, Killed]:
    """Kill a fresh device at ``point`` of an update, start it again; how the update ended, and who was killed."""
    name, number = point
    device.start()
    serves(device, ACTIVE)
    order, deployment = device.order(NEXT)
    inject = f"inject={name}:signal=KILL:when={number}"
    with traced(device.pid, "-o", str(log), "-e", f"trace={name}", "-e", inject) as tracer:
        device.desire(order)
        wait_for(
            "its end or the update's",
            lambda: reached(point, log) or ended(device, deployment),
            seconds=SECONDS,
            every=0.05,
        )
        killed = who_was_killed(device) if reached(point, log) else "nobody"
        tracer.kill()  # its own end could wait for a tracee that is as good as dead
    if killed == "agent":
        device.start()
    report = device.ends(order, deployment)
    examine(device, report, killed)
    return report.phase, killed


def reached(point: Point, log: Path) -> bool:
    """Whether some thread has come to its n-th call, which was its last."""
    name, number = point
    made = Counter(re.findall(rf"^(\d+) +{name}\(", log.read_text(), re.MULTILINE))
    return number in made.values()


def who_was_killed(device: AttackedDevice) -> Killed:
    assert device.service.process is not None
    try:
        device.service.process.wait(LAST_BREATH)
    except subprocess.TimeoutExpired:
        return "child"
    return "agent"


def ended(device: AttackedDevice, deployment: str) -> bool:
    """As :meth:`AttackedDevice.ends` looks, of a device that may die at any moment."""
    try:
        found = device.deployment()
        if found is None or found.deployment != deployment:
            return False
        if found.phase is Phase.PROBATION:
            device.answer()
        return found.phase in FINAL_PHASES and told_once(device, deployment)
    except (CliError, httpx.HTTPError):  # its last breath
        return False


def told_once(device: AttackedDevice, deployment: str) -> bool:
    outcomes = [each for each in events(device, "deployment-outcome") if each.deployment == deployment]
    assert len(outcomes) < 2
    return len(outcomes) == 1


def examine(device: AttackedDevice, report: DeploymentReport, killed: Killed) -> None:
    if report.phase is Phase.COMMITTED:
        serves(device, NEXT)
    else:
        assert report.reason is not None
        if killed == "agent":
            assert (report.phase, report.reason.code) == (Phase.ROLLED_BACK, "interrupted")
        else:
            assert killed == "child", report
        serves(device, ACTIVE)
    wait_for("its outcome", lambda: told_once(device, report.deployment), seconds=SECONDS, every=0.05)
    (started, *_) = events(device, "agent-started")
    assert started.severity == "info", started.text
    status = device.status().state
    assert status.problems == ()
    assert status.outbox.recorded == status.outbox.acknowledged + status.outbox.pending


def test_at_one_call(fresh: AFresh, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    points: list[Point] = [("rename", 6)]
    found = Counter(killed_at(fresh(), point, tmp_path / "log") for point in points)
    tell(request, "one", found)
    assert {killed for _, killed in found} == {"agent"}


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_at_many_calls(fresh: AFresh, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """strace counts each thread's calls apart, so the n-th call is that of the thread that comes to it first."""
    found: Counter[tuple[Phase, Killed]] = Counter()
    for name, step in STEPS.items():
        for number in range(1, 1000, step):
            try:
                result = killed_at(fresh(), (name, number), tmp_path / "log")
            except BaseException as error:
                error.add_note(f"at {name} {number}")
                raise
            found[result] += 1
            if result[1] == "nobody":
                break
    tell(request, "many", found)
    assert found[Phase.COMMITTED, "agent"]
    assert found[Phase.ROLLED_BACK, "agent"]


def tell(request: pytest.FixtureRequest, which: str, found: Counter[tuple[Phase, Killed]]) -> None:
    ended: Counter[Phase] = Counter()
    for (phase, killed), number in found.items():
        if killed != "nobody":
            ended[phase] += number
    count(
        request,
        f"a real agent or its child killed at {which} of its calls",
        points=ended.total(),
        committed=ended[Phase.COMMITTED],
        rolled_back=ended[Phase.ROLLED_BACK],
        refused=ended[Phase.REFUSED],
        serving=ended.total(),
    )
