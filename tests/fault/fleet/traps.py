"""How each phase of the update machine is made to last on a real agent, until the agent has been killed in it."""

import contextlib
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from agent.cli.client import ask
from agent.core.model_state import ModelState
from agent.core.update_machine import STARTS_IN_A_ROW
from agent.protocol.control import ControlRequest
from agent.protocol.state import FINAL_PHASES, DeploymentReport, Phase
from tests.acceptance.processes import StepFailedError, wait_for
from tests.acceptance.world import MODEL, Agent
from tests.support.fleet import deployment, start
from tests.support.own_children import children_running

RELEASE = 2
"""The release that is on its way when the agent is killed; release 1 is committed before."""
SECONDS = 100.0
MOST_KILLS = 2 * (STARTS_IN_A_ROW + 1) + 1
"""A phase that is resumed, then the way back, each with its bound."""
ACCEPT_CALL = "getsockname"
"""What a runner calls when it is told to accept on the shared sockets, and not before."""


@dataclass(frozen=True)
class Trap:
    """One phase: the device's settings that make it last, and what is done to reach it."""

    settings: str = ""
    """TOML, added to the device's."""
    spring: Callable[[Agent], contextlib.AbstractContextManager[object]] = lambda _: contextlib.nullcontext()
    """Entered as soon as the deployment is under way; the phase is then waited for."""


@contextmanager
def _slow_to_accept(agent: Agent) -> Iterator[None]:
    """While the candidate is probed, a tracer takes hold of it; it then takes its time to accept."""
    reach(agent, Phase.PROBING)
    with traced(candidate_pid(agent), ACCEPT_CALL, "delay_enter=9000000"):
        yield


@contextmanager
def _rolled_back_by_hand(agent: Agent) -> Iterator[None]:
    reach(agent, Phase.PROBATION)
    ask(str(agent.socket), ControlRequest(method="rollback", model=MODEL, reason="the test says so"))
    yield


TRAPS: dict[Phase, Trap] = {
    Phase.FETCHING: Trap(settings="[transfer]\nlimit_bytes_per_second = 40000\n"),
    Phase.READY: Trap(settings='[updates]\napproval = "operator"\n'),
    Phase.PROBING: Trap(),  # an inference of the release takes its time
    Phase.ACTIVATING: Trap(settings="[probe]\nrepetitions = 200\n", spring=_slow_to_accept),
    Phase.PROBATION: Trap(),  # nobody sends the requests it waits for
    Phase.ROLLING_BACK: Trap(spring=_rolled_back_by_hand),  # a runner of release 1 has to start
}


def add_settings(agent: Agent, settings: str) -> None:
    """Add settings to the device's configuration, table by table; one that stands there already is replaced."""
    tables = _tables(agent.config.read_text())
    for name, lines in _tables(settings).items():
        new = {line.partition("=")[0].strip() for line in lines}
        kept = [line for line in tables.get(name, []) if line.partition("=")[0].strip() not in new]
        tables[name] = kept + lines
    agent.config.write_text("\n".join("\n".join((name, *lines, "")) for name, lines in tables.items()))


def _tables(text: str) -> dict[str, list[str]]:
    """``[name]`` → its lines; the configuration of these tests has one setting a line."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in filter(None, text.splitlines()):
        if line.startswith("["):
            lines = found.setdefault(line, [])
        else:
            lines.append(line)
    return found


def reach(agent: Agent, wanted: Phase, *, every: float = 0.01) -> None:
    """Wait until the deployment of :data:`RELEASE` is in phase ``wanted``."""

    def reached() -> bool:
        report = deployment(agent)
        if report is None or report.release != RELEASE:
            return False
        if report.phase is not wanted and report.phase in FINAL_PHASES:
            raise StepFailedError(
                f"{agent.name} was {report.phase} before it was seen {wanted}: {report.reason}"
            )
        return report.phase is wanted

    wait_for(f"{agent.name} to be {wanted}", reached, seconds=SECONDS, every=every)


def kill_in(agent: Agent, phase: Phase) -> None:
    """SIGKILL the agent in ``phase``; every process that it had started ends with it."""
    with TRAPS[phase].spring(agent):
        reach(agent, phase)
        kill(agent)


def kill(agent: Agent) -> None:
    children = psutil.Process(agent.service.pid).children(recursive=True)
    agent.service.kill()
    _gone, orphans = psutil.wait_procs(children, timeout=20)
    assert orphans == []


def kill_for_ever(agent: Agent) -> int:
    """Start the agent and kill it as soon as it has taken note of the start, until its deployment has ended anyway.

    Returns how often it was killed, the first time included.
    """
    kills = 1
    while True:
        before = persisted(agent)
        start(agent)

        def noted(before: ModelState = before) -> ModelState | None:
            agent.service.require_alive()
            now = persisted(agent)
            return None if now == before else now

        state = wait_for(f"{agent.name} to note its start", noted, seconds=SECONDS, every=0.01)
        if state.deployment is None or state.deployment.final:
            return kills
        kill(agent)
        kills += 1
        if kills > MOST_KILLS:
            raise StepFailedError(
                f"{agent.name} is {state.deployment.phase} after {kills} kills: {state.deployment.resumes}"
            )


def persisted(agent: Agent) -> ModelState:
    """What the device would start from now."""
    path = f"file:{agent.folder}/state/state.db?mode=ro"
    with closing(sqlite3.connect(path, uri=True, timeout=20)) as database:
        (value,) = database.execute("SELECT value FROM state WHERE key = ?", (f"model/{MODEL}",)).fetchone()
    return msgspec.json.decode(value, type=ModelState)


def newest(agent: Agent) -> DeploymentReport:
    """The deployment of :data:`RELEASE`, by the device's own word."""
    report = deployment(agent)
    assert report is not None
    assert report.release == RELEASE, report
    return report


def candidate_pid(agent: Agent) -> int:
    """The process that runs the candidate, once it has loaded it and is being probed."""

    def found() -> int | None:
        runners = children_running(agent.service.pid, "agent.runner")
        pid = max(runners, key=psutil.Process.create_time).pid if len(runners) > 1 else None
        loaded = f'"runner loaded", "pid": {pid},' in agent.service.log.read_text(encoding="utf-8")
        return pid if loaded else None

    return wait_for(f"{agent.name}'s candidate", found, seconds=SECONDS, every=0.01)


@contextmanager
def traced(pid: int, call: str, injection: str, *more: str) -> Iterator[None]:
    """Inject a fault into the system calls of a process, all its threads included, until the end of the block."""
    attach = ("strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={call}")
    tracer = subprocess.Popen([*attach, "-e", f"inject={call}:{injection}", *more])
    try:
        wait_for(f"the tracer of {pid}", lambda: _is_traced(pid), seconds=SECONDS, every=0.005)
        yield
    finally:
        tracer.terminate()
        tracer.wait(20)


def _is_traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
