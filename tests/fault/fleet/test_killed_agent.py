"""A real agent, killed once in each phase of a deployment: it ends with its reason, and a release answers again."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.manifest import decode_manifest
from agent.protocol.state import FINAL_PHASES, DeploymentReport, Phase
from tests.acceptance.processes import StepFailedError, wait_for
from tests.acceptance.world import Agent
from tests.support.fleet import Fleet, answered, deployment, served_release, start

FETCHING, PROBING, PROBATION = "killed-fetching", "killed-probing", "killed-in-probation"
SECONDS = 40.0


@pytest.fixture(scope="module")
def fleet(
    first_release: Path, slow_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Three devices that have committed release 1, each killed in another phase of release 2, and started again.

    Fetching is caught because the hub's copy of the model file is away meanwhile, probing because an inference of
    release 2 takes its time, and probation because nobody sends the requests it waits for.
    """
    made = Fleet(tmp_path_factory.mktemp("killed-agent"))
    try:
        made.make_hub()
        made.publish(first_release, 1)
        made.publish(slow_release, 2)
        for name in (FETCHING, PROBING, PROBATION):
            made.enrol(name)
        made.wait_rollout(made.start_rollout(1))
        _kill_each(made, slow_release)
        for agent in made.agents:
            start(agent)
        _let_them_end(made)
        yield made
    finally:
        made.stop()


def _kill_each(fleet: Fleet, release: Path) -> None:
    fetching, probing, probation = fleet.agents
    model = decode_manifest((release / MANIFEST_FILENAME).read_bytes()).variants[0].artifact
    stored, aside = fleet.hub_folder / "artifacts" / model.sha256, fleet.folder / model.filename
    stored.rename(aside)
    fleet.start_rollout(2, allowed_failures=len(fleet.agents))
    _kill_in(fetching, Phase.FETCHING)
    aside.rename(stored)
    _kill_in(probing, Phase.PROBING)
    _kill_in(probation, Phase.PROBATION)


def _kill_in(agent: Agent, wanted: Phase) -> None:
    def reached() -> bool:
        report = deployment(agent)
        if report is None or report.release != 2:
            return False
        if report.phase in FINAL_PHASES:
            raise StepFailedError(
                f"{agent.name} was {report.phase} before it was seen {wanted}: {report.reason}"
            )
        return report.phase is wanted

    wait_for(f"{agent.name} to be {wanted}", reached, seconds=SECONDS, every=0.01)
    children = psutil.Process(agent.service.pid).children(recursive=True)
    agent.service.kill()
    _gone, orphans = psutil.wait_procs(children, timeout=10)
    assert orphans == []


def _let_them_end(fleet: Fleet) -> None:
    """Send what probation waits for, until every device has ended its deployment and answers."""

    def ended() -> bool:
        fleet.require_alive()
        answers = [answered(agent) for agent in fleet.agents]
        reports = [deployment(agent) for agent in fleet.agents]
        over = [report is not None and report.phase in FINAL_PHASES for report in reports]
        return all(over) and None not in answers

    wait_for("every deployment to end", ended, seconds=SECONDS)


def _ended(fleet: Fleet, name: str) -> tuple[Agent, DeploymentReport]:
    agent = next(agent for agent in fleet.agents if agent.name == name)
    report = deployment(agent)
    assert report is not None
    assert report.release == 2
    return agent, report


def test_killed_while_fetching_it_goes_on_and_commits(fleet: Fleet) -> None:
    agent, report = _ended(fleet, FETCHING)
    assert (report.phase, report.reason) == (Phase.COMMITTED, None)
    assert served_release(agent) == 2


@pytest.mark.parametrize(("name", "phase"), [(PROBING, Phase.PROBING), (PROBATION, Phase.PROBATION)])
def test_killed_later_it_rolls_back_and_says_so(fleet: Fleet, name: str, phase: Phase) -> None:
    agent, report = _ended(fleet, name)
    assert report.phase is Phase.ROLLED_BACK
    assert report.reason is not None
    assert report.reason.code == "interrupted"
    assert report.reason.text == f"the agent stopped while the deployment was {phase.value}"
    assert served_release(agent) == 1
    slots = agent.edgeward("models")["models"][0]
    assert (slots["active"]["release"], slots["candidate"], slots["floor"]) == (1, None, 1)


def test_the_hub_sees_one_outcome_for_each_deployment(fleet: Fleet) -> None:
    rollout = fleet.client("victor").get("/v1/rollouts")[0]
    wait_for(
        "the rollout to end", lambda: fleet.rollout_state(rollout["id"])["status"] == "completed", seconds=20
    )
    for agent in fleet.agents:
        wait_for(f"{agent.name}'s records to arrive", partial(fleet.held, agent), seconds=20)
        outcomes = fleet.outcomes(agent)
        report = deployment(agent)
        assert report is not None
        assert {name: len(texts) for name, texts in outcomes.items()} == dict.fromkeys(outcomes, 1)
        assert len(outcomes) == 2, "one of release 1, one of release 2"
        why = "" if report.reason is None else f": {report.reason.text}"
        assert outcomes[report.deployment] == [f"release 2 {report.phase.value}{why}"]
    seen = {each["device"]: each["outcome"] for each in fleet.rollout_state(rollout["id"])["devices"]}
    assert seen == {FETCHING: "committed", PROBING: "failed", PROBATION: "failed"}
