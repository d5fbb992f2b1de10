"""Devices that have never had a network, a hub at the office, and someone who walks between them with a stick."""

import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agent.cli.client import ask
from agent.cli.errors import AgentNotRunningError
from agent.cli.main import main as technicians_main
from agent.protocol.control import BundleReport, BundleResult, ControlRequest
from agent.protocol.state import FINAL_PHASES, DeploymentReport, Phase
from cloud_hub.cli import main as hub_main
from tests.acceptance.processes import StepFailedError, wait_for
from tests.acceptance.world import Agent
from tests.support.fleet import Fleet, answered, deployment
from tests.support.ports import free_port

SECONDS = 60.0


@dataclass
class Office(Fleet):
    """A fleet whose devices are enrolled on the bench, and from then on find no broker where theirs should be."""

    def bench(self, *names: str) -> None:
        """Enrol devices, take their network away, and start them."""
        for name in names:
            agent = self._make_agent(name)
            self.agents.append(agent)
            self.reach(agent, free_port())
            agent.service.start()
        for agent in self.agents:
            speaks = partial(_speaks, agent)
            wait_for(f"{agent.name} to start", speaks, seconds=SECONDS, every=0.05)

    def reach(self, agent: Agent, port: int) -> None:
        """Where the (stopped) device looks for its broker."""
        file = agent.folder / "state" / "identity" / "broker.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "port": port}))

    def export(self, *options: str, name: str = "stick") -> Path:
        """What ``edgeward-hub bundle export`` writes."""
        path = self.folder / f"{name}.edgeward"
        self.office("export", *options, "-o", str(path), *self.as_person("olga"))
        return path

    def office(self, *arguments: str) -> str:
        """What ``edgeward-hub bundle …`` prints."""
        return _said(hub_main, ["bundle", *arguments])

    def bring(self, receipt: Path) -> str:
        return self.office("import-receipt", str(receipt), *self.as_person("olga"))

    def outcome(self, rollout: int, device: str) -> str | None:
        devices = self.rollout_state(rollout)["devices"]
        (found,) = (each["outcome"] for each in devices if each["device"] == device)
        return None if found is None else str(found)


def _speaks(agent: Agent) -> bool:
    agent.service.require_alive()
    try:
        deployment(agent)
    except AgentNotRunningError:
        return False
    return True


def technician(agent: Agent, *arguments: str) -> str:
    """What the technician's command prints; raises StepFailedError with all it said where it is refused."""
    return _said(technicians_main, ["bundle", *arguments, "--socket", str(agent.socket)])


def _said(main: Callable[[list[str]], int], argv: list[str]) -> str:
    """One command, in this process: a tenth of the time. As a process of its own it is tested in ``tests/integration/cli``."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    if code != 0:
        raise StepFailedError(f"`{' '.join(argv)}` exited {code}\n{out.getvalue()}\n{err.getvalue()}")
    return out.getvalue()


def hand_in(agent: Agent, bundle: Path | int) -> BundleReport:
    """Hand a bundle in as the command does, without its waiting for the update's end."""
    descriptor = os.open(bundle, os.O_RDONLY) if isinstance(bundle, Path) else bundle
    try:
        ask(str(agent.socket), ControlRequest(method="bundle-install"), descriptor)
    finally:
        os.close(descriptor)
    return wait_for("the bundle to be judged", lambda: _judged(agent), seconds=SECONDS, every=0.05)


def offered(agent: Agent) -> BundleReport | None:
    result = ask(str(agent.socket), ControlRequest(method="bundle-status"))
    assert isinstance(result, BundleResult)
    return result.report


def _judged(agent: Agent) -> BundleReport | None:
    report = offered(agent)
    return report if report is not None and report.stage in ("taken", "refused") else None


def serve_until(agent: Agent, phase: Phase) -> Any:
    """Send what probation waits for until the newest deployment is ``phase``; its report."""

    def reached() -> Any:
        agent.service.require_alive()
        report = deployment(agent)
        if report is None:
            return None
        if report.phase is phase:
            return report
        assert report.phase not in FINAL_PHASES, report
        if report.phase is Phase.PROBATION:
            answered(agent)
        return None

    return wait_for(f"{agent.name} to be {phase.value}", reached, seconds=SECONDS, every=0.1)


def ended(agent: Agent) -> DeploymentReport | None:
    """The newest deployment, once it has ended."""
    report = deployment(agent)
    return report if report is not None and report.phase in FINAL_PHASES else None
