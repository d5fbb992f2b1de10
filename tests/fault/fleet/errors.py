"""A real error for each event of the update machine that says that something failed, on a real device."""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from agent.cli.client import ask
from agent.core.events import (
    ActivationFailed,
    BytesLost,
    Event,
    FetchFailed,
    NotInstallable,
    ProbationFailed,
    ProbeFailed,
)
from agent.protocol.control import ControlRequest
from agent.protocol.state import Phase
from tests.acceptance.processes import wait_for
from tests.acceptance.world import Agent
from tests.fault.fleet.traps import ACCEPT_CALL, SECONDS, candidate_pid, persisted, reach, traced
from tests.support.own_children import children_running

OPERATOR = '[updates]\napproval = "operator"\n'


@dataclass(frozen=True)
class Fault:
    """One error, how it is brought about, and how the run ends for it."""

    event: type[Event] | None
    """What the machine hears of it; None: nothing, it is the disk under the machine that fails."""
    inject: Callable[[Agent], None]
    ends: Phase
    codes: frozenset[str]
    settings: str = ""


def _nothing(_agent: Agent) -> None:
    """The device's settings are enough."""


def _candidates_file(agent: Agent) -> Path:
    candidate = persisted(agent).slots.candidate
    assert candidate is not None
    digest = candidate.artifact
    return agent.folder / "state" / "artifacts" / "sha256" / digest[:2] / digest


def _accept(agent: Agent) -> None:
    ask(str(agent.socket), ControlRequest(method="accept"))


def _rot(agent: Agent) -> None:
    """A bit of the model file turns while it waits."""
    reach(agent, Phase.READY)
    path = _candidates_file(agent)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    _accept(agent)


def _unreadable(agent: Agent) -> None:
    """The place on the disk where the model file belongs can't be read, whatever is written there."""
    reach(agent, Phase.READY)
    path = _candidates_file(agent)
    with traced(agent.service.pid, "openat", "error=EIO", "-P", str(path)):
        _accept(agent)
        wait_for("it to give up", lambda: persisted(agent).phase is Phase.REFUSED, seconds=SECONDS)


def _candidate_is_killed(agent: Agent) -> None:
    """As the kernel does where memory runs out."""
    reach(agent, Phase.PROBING)
    os.kill(candidate_pid(agent), signal.SIGKILL)


def _candidate_dies_when_it_should_accept(agent: Agent) -> None:
    reach(agent, Phase.PROBING)
    with traced(candidate_pid(agent), ACCEPT_CALL, "signal=KILL"):
        wait_for("it to die", lambda: persisted(agent).phase is Phase.ROLLED_BACK, seconds=SECONDS)


def _runner_dies(agent: Agent) -> None:
    reach(agent, Phase.PROBATION)
    runners = children_running(agent.service.pid, "agent.runner")
    max(runners, key=psutil.Process.create_time).kill()


def _disk_is_full(agent: Agent) -> None:
    """Nothing reaches the disk when the acceptance should; it is taken as soon as there is room again."""
    reach(agent, Phase.READY)
    accepting = threading.Thread(target=_accept, args=(agent,))
    with traced(agent.service.pid, "fsync,fdatasync", "error=ENOSPC"):
        accepting.start()
        log = agent.service.log
        wait_for("the disk to refuse", lambda: "state not persisted" in log.read_text(), seconds=SECONDS)
        state = persisted(agent).deployment
        assert state is not None
        assert (state.phase, state.accepted) == (Phase.READY, None)
    accepting.join(SECONDS)


FAULTS: dict[str, Fault] = {
    "no-room-to-fetch": Fault(
        FetchFailed, _nothing, Phase.REFUSED, frozenset({"no-room"}), "[device]\nartifact_bytes = 300000\n"
    ),
    "rotten-bit": Fault(BytesLost, _rot, Phase.COMMITTED, frozenset(), OPERATOR),
    "bad-sector": Fault(
        NotInstallable, _unreadable, Phase.REFUSED, frozenset({"artifact-damaged"}), OPERATOR
    ),
    "killed-candidate": Fault(ProbeFailed, _candidate_is_killed, Phase.REFUSED, frozenset({"runner-died"})),
    "dead-at-activation": Fault(
        ActivationFailed,
        _candidate_dies_when_it_should_accept,
        Phase.ROLLED_BACK,
        frozenset({"runner-died"}),
        "[probe]\nrepetitions = 200\n",
    ),
    "dead-on-probation": Fault(ProbationFailed, _runner_dies, Phase.ROLLED_BACK, frozenset({"runner-died"})),
    "full-disk": Fault(None, _disk_is_full, Phase.COMMITTED, frozenset(), OPERATOR),
}
