"""The matrices of one fleet: devices that have committed release 1 and are given release 2, each meeting another end.

Everything happens to all of them at once, so that many points cost little more than one.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from agent.cli.client import ask
from agent.cli.errors import CliError
from agent.core.update_machine import TRANSITIONS
from agent.protocol.control import ControlRequest, Method
from agent.protocol.state import FINAL_PHASES, Phase
from tests.acceptance.processes import wait_for
from tests.acceptance.world import Agent
from tests.fault.fleet.errors import FAULTS
from tests.fault.fleet.traps import (
    RELEASE,
    SECONDS,
    TRAPS,
    add_settings,
    kill_for_ever,
    kill_in,
    newest,
    persisted,
)
from tests.support.counts import count
from tests.support.fleet import Fleet, answered, deployment, start

WORKERS = 3
"""Devices that are on their way to their points at the same time; there are two cores."""
RUNNING = sorted({phase for phase, _ in TRANSITIONS if phase is not None} - FINAL_PHASES)
"""Every phase of the table that a kill can find a run in."""
CRAWLING = "[transfer]\nlimit_bytes_per_second = 1024\n"


def once(phase: Phase) -> str:
    """The device that is killed in this phase."""
    return f"killed-{phase}"


def for_ever(phase: Phase) -> str:
    """The device that is killed in this phase, and at every start after that."""
    return f"killed-for-ever-{phase}"


@dataclass
class Matrix:
    """The devices, and what became of them."""

    fleet: Fleet
    agents: dict[str, Agent] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)

    def run(self, killed: Sequence[Phase], killed_for_ever: Sequence[Phase], faults: Sequence[str]) -> None:
        """Bring every device to its point, and let all of them end.

        The hub is away while those end that were killed and need nothing from it any more.
        """
        self._enrol({once(phase): TRAPS[phase].settings for phase in killed})
        self._enrol({for_ever(phase): TRAPS[phase].settings for phase in killed_for_ever})
        self._enrol({name: FAULTS[name].settings for name in faults})
        self._commit_first()
        for agent in self.agents.values():
            _tell(agent, "hold")  # until somebody looks: a phase that nobody waits for may be over
        self.fleet.start_rollout(RELEASE, allowed_failures=len(self.agents))
        points = {once(phase): phase for phase in killed} | {
            for_ever(phase): phase for phase in killed_for_ever
        }
        with ThreadPoolExecutor(WORKERS) as pool:
            kills = [pool.submit(self._kill, name, phase) for name, phase in points.items()]
            failing = [pool.submit(self._fail, name) for name in faults]
            for each in (*kills, *failing):
                each.result()
        self.settle([self.agents[name] for name in faults])
        self.fleet.hub.stop()
        fetching = [self.agents[once(phase)] for phase in killed if phase is Phase.FETCHING]
        others = [self.agents[once(phase)] for phase in killed if phase is not Phase.FETCHING]
        for agent in others:
            agent.service.start()
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(self._kill_again_and_again, killed_for_ever))
        self.settle(others)
        self.fleet.start_hub()
        for agent in fetching:
            start(agent)
        self.settle(self.agents.values())

    def _kill(self, name: str, phase: Phase) -> None:
        _tell(self.agents[name], "resume")
        kill_in(self.agents[name], phase)

    def _fail(self, name: str) -> None:
        _tell(self.agents[name], "resume")
        FAULTS[name].inject(self.agents[name])

    def _enrol(self, devices: dict[str, str]) -> None:
        """Name → settings of its own."""
        for name, settings in devices.items():
            agent = self.fleet._make_agent(name)
            add_settings(agent, settings)
            self.agents[name] = agent
            self.fleet.agents.append(agent)
            agent.service.start()

    def _commit_first(self) -> None:
        rollout = self.fleet.start_rollout(1)
        self.settle(self.agents.values(), release=1)
        wait_for(
            "the hub to hear of it",
            lambda: self.fleet.rollout_state(rollout)["status"] == "completed",
            seconds=SECONDS,
            every=0.1,
        )

    def _kill_again_and_again(self, phase: Phase) -> None:
        agent = self.agents[for_ever(phase)]
        if phase is Phase.FETCHING:
            add_settings(agent, CRAWLING)
        self.kills[agent.name] = kill_for_ever(agent)

    def settle(self, agents: Iterable[Agent], *, release: int = RELEASE) -> None:
        """Accept what waits for an operator, and send the requests that probation waits for, until all have ended."""
        waiting = list(agents)

        def ended() -> bool:
            for agent in list(waiting):
                agent.service.require_alive()
                if _has_ended(agent, release):
                    waiting.remove(agent)
            return not waiting

        wait_for(f"release {release} to end everywhere", ended, seconds=2 * SECONDS, every=0.1)

    def check_outcomes(self) -> None:
        """The hub holds one outcome a deployment of every device, with the reason that the device gives."""
        fleet = self.fleet
        rollout = fleet.client("victor").get("/v1/rollouts")[0]["id"]
        wait_for(
            "the rollout to end",
            lambda: fleet.rollout_state(rollout)["status"] == "completed",
            seconds=SECONDS,
        )
        expected = {}
        for name, agent in self.agents.items():
            wait_for(f"{name}'s records to arrive", partial(fleet.held, agent), seconds=SECONDS)
            report = newest(agent)
            expected[name] = "committed" if report.phase is Phase.COMMITTED else "failed"
            why = "" if report.reason is None else f": {report.reason.text}"
            outcomes = fleet.outcomes(agent)
            assert {each: len(texts) for each, texts in outcomes.items()} == dict.fromkeys(outcomes, 1), name
            assert len(outcomes) == 2, "one of release 1, one of release 2"
            assert outcomes[report.deployment] == [f"release {RELEASE} {report.phase.value}{why}"]
        seen = {each["device"]: each["outcome"] for each in fleet.rollout_state(rollout)["devices"]}
        assert seen == expected

    def killed(self, names: Iterable[str]) -> int:
        """How often they were killed, in all."""
        return sum(self.kills.get(name, 1) for name in names)

    def check_ends(
        self, names: Sequence[str], request: pytest.FixtureRequest, what: str, **more: int
    ) -> None:
        """All have ended and serve; the run's summary says how many."""
        ended, serving = self.ended(names), self.serving(names)
        count(request, what, points=len(names), **more, ended=ended, serving=serving)
        assert ended == serving == len(names)

    def ended(self, names: Iterable[str]) -> int:
        """How many have ended release 2 and have recorded how, by what they would start from now."""
        states = [persisted(self.agents[name]).deployment for name in names]
        return sum(
            each is not None and each.release == RELEASE and each.final and not each.report_pending
            for each in states
        )

    def serving(self, names: Iterable[str]) -> int:
        """How many answer a request now."""
        return sum(answered(self.agents[name]) is not None for name in names)


def _tell(agent: Agent, method: Method) -> None:
    ask(str(agent.socket), ControlRequest(method=method))


def _has_ended(agent: Agent, release: int) -> bool:
    try:
        report = deployment(agent)
    except CliError:
        return False  # it is starting
    if report is None or report.release != release:
        return False
    if report.waiting_for is not None and report.waiting_for.code == "needs-operator":
        _tell(agent, "accept")
    serves = answered(agent) is not None
    return report.phase in FINAL_PHASES and serves


@contextmanager
def matrix(
    folder: Path,
    releases: tuple[Path, Path],
    *,
    killed: Sequence[Phase],
    killed_for_ever: Sequence[Phase],
    faults: Sequence[str] = (),
) -> Iterator[Matrix]:
    """A fleet whose devices have all met their ends."""
    made = Matrix(Fleet(folder))
    try:
        made.fleet.make_hub()
        for number, release in enumerate(releases, start=1):
            made.fleet.publish(release, number)
        made.run(killed, killed_for_ever, faults)
        yield made
    finally:
        made.fleet.stop()
