"""What a technician is told, and what is done on their word."""

from typing import cast

import pytest
from msgspec.structs import replace

from agent.core.events import Event, RollbackRequested
from agent.core.model_state import DeploymentState, ModelState
from agent.core.reconcile import Plan, reconcile
from agent.core.slots import Slots
from agent.protocol import telemetry
from agent.protocol.control import DriftReport
from agent.protocol.state import Phase, Reason, ReportedState
from agent.service.bundles import Bundles
from agent.service.control_server import ControlError
from agent.service.desired import DesiredKeeper
from agent.service.drift_reports import DriftReports
from agent.service.hold import Hold
from agent.service.labels import LabelDesk
from agent.service.models import Models
from agent.service.reporting import ModelView
from agent.service.sample_desk import SampleDesk
from agent.service.technician import Technician
from agent.service.telemetry_budget import TelemetryBudget
from agent.store.events import EventLog
from tests.contract.protocol.samples import EVENT, REPORTED, WINDOW
from tests.unit.service.world import REASON, ListRecorder, MemoryState, assigned, installed

DRIFT = DriftReport(model="digits", window=WINDOW)
RESTING = ModelState(
    model="digits",
    slots=Slots(active=installed(2), previous=installed(1), floor=2, committed=(1, 2)),
    deployment=DeploymentState(
        deployment="d2", model="digits", release=2, phase=Phase.COMMITTED, since=1.0, outcome=Phase.COMMITTED
    ),
    ended=("d1", "d2"),
)


class Surroundings:
    """The models, the desired state and the logs, as the technician's answers read them."""

    def __init__(self) -> None:
        self.all = {"digits": RESTING, "faces": ModelState(model="faces")}
        self.posted: list[tuple[str, Event]] = []
        self.accepted: list[tuple[str, str, bool]] = []
        self.waits = {"digits"}
        self.refusal: Reason | None = None
        self.verified_at: float | None = 9.0
        self.connected = True
        self.synced = 0
        self.recorder = ListRecorder()
        self.asked: list[tuple[str | None, int]] = []
        self.held = Hold(None, MemoryState(), self.recorder, clock=lambda: 1.0, changed=lambda: None)
        self.technician = Technician(
            cast(Models, self),
            cast(DesiredKeeper, self),
            self.held,
            cast(EventLog, self),
            cast(DriftReports, self),
            cast(Bundles, self),
            cast(TelemetryBudget, self),
            cast(SampleDesk, self),
            cast(LabelDesk, self),
            report=self.report,
            link_problem=lambda: "connection lost",
            connected=lambda: self.connected,
            sync=self.sync,
        )

    def states(self) -> dict[str, ModelState]:
        return self.all

    def views(self) -> list[ModelView]:
        return [
            ModelView(state=state, runner=None, ready=False, progress=None, address=None, window=None)
            for state in self.all.values()
        ]

    def plan(self) -> Plan:
        return reconcile([assigned(3)], [], self.all, hold=self.held.reason)

    async def accept(self, name: str, *, by: str, now: bool) -> bool:
        self.accepted.append((name, by, now))
        return name in self.waits

    def post(self, name: str, event: Event) -> None:
        self.posted.append((name, event))

    async def newest(self, limit: int) -> list[telemetry.Event]:
        self.asked.append((None, limit))
        return [EVENT]

    async def reports(self, model: str | None, history: int) -> tuple[DriftReport, ...]:
        self.asked.append((model, history))
        return (DRIFT,)

    async def report(self) -> ReportedState:
        return REPORTED

    def sync(self) -> None:
        self.synced += 1


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


async def refusal(around: Surroundings, model: str) -> ControlError:
    with pytest.raises(ControlError) as error:
        await around.technician.rollback(model, None)
    assert around.posted == []
    return error.value


async def test_status_is_what_the_hub_is_told_and_whether_it_can_be(around: Surroundings) -> None:
    status = await around.technician.status()
    assert (status.state, status.connected, status.hold, status.desired_at) == (REPORTED, True, None, 9.0)
    await around.technician.hold("cleaning")
    around.connected = False
    status = await around.technician.status()
    assert status.connected is False
    assert status.hold is not None
    assert "cleaning" in status.hold.text


async def test_every_model_or_the_one_that_was_asked_for(around: Surroundings) -> None:
    assert [each.model for each in (await around.technician.models(None)).models] == ["digits", "faces"]
    (only,) = (await around.technician.models("digits")).models
    assert only.active is not None
    assert only.active.release == 2


async def test_an_unknown_model_is_answered_with_the_known_ones(around: Surroundings) -> None:
    for call in (around.technician.models("face"), around.technician.drift("face", 5)):
        with pytest.raises(
            ControlError, match="no model face on this device; it has: digits, faces"
        ) as error:
            await call
        assert error.value.code == "unknown-model"
    assert (await refusal(around, "face")).code == "unknown-model"
    around.all = {}
    with pytest.raises(ControlError, match="it has: none"):
        await around.technician.models("digits")


async def test_drift_and_events_pass_on_what_was_asked(around: Surroundings) -> None:
    assert (await around.technician.drift("digits", 7)).reports == (DRIFT,)
    assert (await around.technician.drift(None, 8)).reports == (DRIFT,)
    assert (await around.technician.events(9)).events == (EVENT,)
    assert around.asked == [("digits", 7), (None, 8), (None, 9)]


async def test_the_plan_says_what_would_be_done_and_why_not(around: Surroundings) -> None:
    around.refusal = REASON
    before = await around.technician.plan()
    assert before.refusal == REASON
    assert [(step.action, step.release) for step in before.steps if step.model == "digits"] == [("start", 3)]
    await around.technician.hold(None)
    (held,) = [step for step in (await around.technician.plan()).steps if step.model == "digits"]
    assert held.action == "wait"
    assert "holds" in held.reason.text


async def test_resume_ends_a_hold_and_says_where_there_was_none(around: Surroundings) -> None:
    assert (await around.technician.resume()).message == "the device was not held"
    assert around.recorder.bodies == []
    await around.technician.hold("why")
    assert (await around.technician.resume()).message.startswith("resumed")
    assert around.held.reason is None


async def test_a_rollback_is_handed_to_the_model_with_its_reason(around: Surroundings) -> None:
    done = await around.technician.rollback("digits", "it squeaks")
    assert "rolling back" in done.message
    ((model, event),) = around.posted
    assert model == "digits"
    assert isinstance(event, RollbackRequested)
    assert event.deployment == "d2"
    assert event.reason.code == "operator-rollback"
    assert "it squeaks" in event.reason.text


async def test_a_rollback_with_nothing_to_go_back_to_is_refused(around: Surroundings) -> None:
    assert (await refusal(around, "faces")).code == "nothing-to-roll-back"
    around.all["digits"] = replace(RESTING, slots=replace(RESTING.slots, previous=None))
    error = await refusal(around, "digits")
    assert error.code == "nothing-to-roll-back"
    assert "no earlier release is kept" in str(error)


async def test_a_rollback_while_an_outcome_is_being_recorded_is_busy(around: Surroundings) -> None:
    assert RESTING.deployment is not None
    around.all["digits"] = replace(RESTING, deployment=replace(RESTING.deployment, report_pending=True))
    assert (await refusal(around, "digits")).code == "busy"


async def test_sync_is_done_and_says_whether_the_hub_is_there(around: Surroundings) -> None:
    assert "being asked" in (await around.technician.sync()).message
    around.connected = False
    assert "no link" in (await around.technician.sync()).message
    assert around.synced == 2


async def test_accepting_is_for_one_model_or_for_all_and_says_who(around: Surroundings) -> None:
    done = await around.technician.accept("digits", now=True, who="maria (uid 1000)")
    assert done.message == "accepted the update of model digits; `edgeward models` shows how it goes"
    await around.technician.accept(None, now=False, who="uid 7")
    assert around.accepted == [
        ("digits", "maria (uid 1000)", True),
        ("digits", "uid 7", False),
        ("faces", "uid 7", False),
    ]
    around.waits.add("faces")
    assert "2 updates" in (await around.technician.accept(None, now=False, who="uid 7")).message


@pytest.mark.parametrize(
    ("model", "code", "text"),
    [
        ("digits", "nothing-to-accept", "model digits: no update waits on this device"),
        (None, "nothing-to-accept", "no update waits on this device"),
        ("face", "unknown-model", "no model face on this device"),
    ],
)
async def test_where_nothing_waits_nothing_is_accepted(
    around: Surroundings, model: str | None, code: str, text: str
) -> None:
    around.waits = set()
    with pytest.raises(ControlError, match=text) as error:
        await around.technician.accept(model, now=False, who="uid 7")
    assert error.value.code == code
