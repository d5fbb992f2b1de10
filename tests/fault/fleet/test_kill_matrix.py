"""The kill matrix, made from the update machine's table: a real agent, killed in every phase that a run can stand in.

Once, and for ever: at every start again until the deployment has ended all the same. While most of them end, the hub is away.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.protocol.state import Phase
from tests.fault.fleet.matrix import RUNNING, Matrix, for_ever, matrix, once
from tests.fault.fleet.traps import MOST_KILLS, RELEASE, TRAPS, newest
from tests.support.fleet import served_release

RESUMED = (Phase.FETCHING, Phase.READY)

pytestmark = [
    pytest.mark.skipif(
        shutil.which("strace") is None, reason="needs strace, which holds processes and fails their calls"
    ),
    pytest.mark.timeout(400),
]


def test_no_phase_of_the_table_escapes() -> None:
    assert sorted(TRAPS) == RUNNING


@pytest.mark.parametrize("phase", RESUMED)
def test_killed_before_anything_was_tried_it_goes_on_and_commits(ended: Matrix, phase: Phase) -> None:
    agent = ended.agents[once(phase)]
    report = newest(agent)
    assert (report.phase, report.reason) == (Phase.COMMITTED, None)
    assert served_release(agent) == RELEASE


@pytest.mark.parametrize("phase", [phase for phase in RUNNING if phase not in RESUMED])
def test_killed_later_it_rolls_back_and_says_so(ended: Matrix, phase: Phase) -> None:
    agent = ended.agents[once(phase)]
    report = newest(agent)
    assert report.phase is Phase.ROLLED_BACK
    assert report.reason is not None
    if phase is Phase.ROLLING_BACK:
        assert report.reason.code == "operator-rollback"
    else:
        assert report.reason.code == "interrupted"
        assert report.reason.text == f"the agent stopped while the deployment was {phase.value}"
    assert served_release(agent) == 1
    slots = agent.edgeward("models")["models"][0]
    assert (slots["active"]["release"], slots["candidate"], slots["floor"]) == (1, None, 1)


def test_killed_for_ever_it_ends_and_serves(ended: Matrix) -> None:
    check_for_ever(ended, [Phase.READY])


def test_the_hub_sees_one_outcome_and_its_reason_though_it_was_away(ended: Matrix) -> None:
    ended.check_outcomes()


def test_every_point_ended_and_serves(ended: Matrix, request: pytest.FixtureRequest) -> None:
    names = [*map(once, RUNNING), for_ever(Phase.READY)]
    ended.check_ends(names, request, "kill matrix", kills=ended.killed(names))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_phase_for_ever(
    first_release: Path, slow_release: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with matrix(tmp_path, (first_release, slow_release), killed=[], killed_for_ever=RUNNING) as ended:
        check_for_ever(ended, RUNNING)
        ended.check_outcomes()
        names = list(map(for_ever, RUNNING))
        ended.check_ends(names, request, "kill matrix, for ever", kills=ended.killed(names))


def check_for_ever(ended: Matrix, phases: Sequence[Phase]) -> None:
    for phase in phases:
        agent = ended.agents[for_ever(phase)]
        report = newest(agent)
        assert report.phase is Phase.ROLLED_BACK, phase
        assert report.reason is not None
        if phase in RESUMED:
            assert report.reason.code == "restart-loop"
            assert "6 times in a row" in report.reason.text
        elif phase is Phase.ROLLING_BACK:
            assert report.reason.code == "operator-rollback"
        else:
            assert report.reason.code == "interrupted"
        assert ended.kills[agent.name] <= MOST_KILLS
        assert served_release(agent) == 1
