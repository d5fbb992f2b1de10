"""A device whose clock is wrong, and one whose release was taken back: real processes, told in words, serving all the while."""

import sys
from collections.abc import Callable
from datetime import timedelta

from agent.cli.client import ask
from agent.cli.health import findings
from agent.core.trusted_time import BUILD_TIME
from agent.protocol.control import ControlRequest
from agent.protocol.state import ModelRelease, Phase
from cloud_hub.signing.documents import ROLE_LIFE
from tests.acceptance.processes import Service, wait_for
from tests.fault.attacks import forging
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub
from tests.fault.attacks.test_keys import withdraw

DAY = 86_400.0
WRONG_CLOCK = """
import sys, time
true = time.time
offset = {offset}
time.time = lambda: true() + offset
from agent.daemon import main
sys.exit(main(sys.argv[1:]))
"""


def with_clock(device: AttackedDevice, offset: float) -> None:
    """Start the device's service again, its clock ahead by so many seconds."""
    device.stop()
    config = str(device.folder / "agent.toml")
    command = (sys.executable, "-c", WRONG_CLOCK.format(offset=offset), "run", "--config", config)
    device.service = Service(device.name, command, device.folder / "agent.log")
    device.start()


def warned(device: AttackedDevice, code: str) -> str:
    """Wait until the device warns of it; the words."""

    def found() -> str | None:
        trust = device.status().state.trust
        return next((each.text for each in trust.warnings if each.code == code), None) if trust else None

    return wait_for(code, found, seconds=SECONDS, every=0.05)


def serves(device: AttackedDevice, release: int) -> None:
    """Once its runner is up again, the release answers."""
    assert wait_for("an answer", device.answer, seconds=SECONDS, every=0.05) == release


def test_a_clock_in_1970_is_no_obstacle(
    hub: HostileHub, fresh_device: Callable[[str], AttackedDevice]
) -> None:
    device = fresh_device("dead-clock")
    with_clock(device, -hub.now.timestamp() + 60)
    device.commits(1)
    assert "1970-01-01" in warned(device, "clock-behind")
    device.stop()
    stored = device.trust().hub_time
    assert stored >= BUILD_TIME, "the hub's word is kept"
    assert stored == hub.now.replace(microsecond=0).timestamp(), "and no other clock's"


def test_a_clock_that_is_ahead_blocks_installing_says_so_and_serves(
    hub: HostileHub, fresh_device: Callable[[str], AttackedDevice]
) -> None:
    device = fresh_device("fast-clock")
    device.commits(1)

    with_clock(device, 20 * DAY)  # the broker's certificate still holds, the timestamp does not
    reason = device.refuses(device.order(1)[0])
    assert reason.code == "expired"
    assert "if the clock is wrong, set it" in reason.text
    warned(device, "clock-ahead")
    assert any("timedatectl" in finding.todo for finding in findings(device.status()))
    serves(device, 1)

    with_clock(device, 60 * DAY)  # and now that has expired too
    problem = wait_for("the link to fail", lambda: device.status().link_problem, seconds=SECONDS, every=0.05)
    assert "certificate" in problem
    assert "if its clock is wrong, set it" in problem
    assert any("if its clock is wrong" in finding.text for finding in findings(device.status()))
    serves(device, 1)

    with_clock(device, 0.0)
    device.commits(1)
    device.stop()
    assert device.trust().hub_time <= hub.now.timestamp(), "what the wrong clock said was never kept"


def test_who_cuts_line_and_power_does_not_get_what_has_expired_meanwhile_installed(
    hub: HostileHub, fresh_device: Callable[[str], AttackedDevice]
) -> None:
    device = fresh_device("cut-off")
    hub.release("faces", 41)
    device.commits(41, "faces")
    settings = device.folder / "agent.toml"
    settings.write_text(f'{settings.read_text()}\n[updates]\napproval = "operator"\n')
    with_clock(device, 0.0)
    hub.release("faces", 42)
    device.desire(device.order(42, "faces")[0])

    def waits_for() -> str | None:
        report = device.deployment("faces")
        return (
            report.waiting_for.code if report and report.phase is Phase.READY and report.waiting_for else None
        )

    wait_for("an operator to be asked for", lambda: waits_for() == "needs-operator", seconds=SECONDS)
    device.stop()
    device.line.lead_to(1)
    with_clock(device, 20 * DAY)
    wait_for("what has expired to be seen", lambda: waits_for() == "expired", seconds=SECONDS)
    device.ask(ControlRequest(method="accept", model="faces", now=True))
    serves_faces = wait_for("an answer", lambda: device.answer("faces"), seconds=SECONDS, every=0.05)
    assert (serves_faces, waits_for()) == (41, "expired")
    assert device.status().desired_at is None


def test_a_role_that_will_expire_is_told_early(hub: HostileHub, device: AttackedDevice) -> None:
    soon = hub.now + timedelta(days=10)
    forging.list_role(hub, lambda role: setattr(role, "expires", soon.replace(microsecond=0)), "ada", "ben")
    since = device.reports()
    device.commits(1)
    assert "the approval of digits expires at" in warned(device, "role-expires")
    heard = device.hears(lambda report: report.trust is not None and report.trust.warnings, since)
    assert heard.trust is not None
    assert [warning.code for warning in heard.trust.warnings] == ["role-expires"]
    forging.list_role(
        hub, lambda role: setattr(role, "expires", (hub.now + ROLE_LIFE).replace(microsecond=0)), "ada", "ben"
    )
    device.commits(1)
    trust = device.status().state.trust
    assert trust is not None
    assert trust.warnings == ()


def test_a_withdrawn_release_serves_on_and_no_hold_keeps_it(
    hub: HostileHub, fresh_device: Callable[[str], AttackedDevice]
) -> None:
    device = fresh_device("withdrawn")
    for release in (31, 32):
        hub.release("faces", release)
        device.commits(release, "faces")
    held = ask(str(device.config.control_socket), ControlRequest(method="hold", reason="work on the line"))
    assert held is not None
    forging.list_role(hub, withdraw(32), "ada", "cyd", model="faces")
    ordered, deployment = device.order(32, "faces")
    refused = device.rejects(ordered, deployment, "faces")
    assert refused.code == "withdrawn"
    assert "faces release 32 was withdrawn by its approvers" in warned(device, "release-withdrawn")
    trust = device.status().state.trust
    assert trust is not None
    assert trust.withdrawn == (ModelRelease(model="faces", release=32),)
    assert device.answer("faces") == 32, "it serves until there is something better"

    back, deployment = device.order(31, "faces")
    assert device.ends(back, deployment, "faces").phase is Phase.COMMITTED
    assert device.answer("faces") == 31
    assert device.status().state.held, "and the technician's hold still stands for everything else"
