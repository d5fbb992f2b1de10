"""What the agent does for a technician at the control socket."""

from collections.abc import Awaitable, Callable, Sequence

from agent.core.errors import NothingToRollBackToError
from agent.core.update_machine import request_rollback
from agent.protocol.control import (
    AccuracyResult,
    BundleResult,
    DataResult,
    Done,
    DriftResult,
    EventsResult,
    LabelResult,
    ModelsResult,
    PlanResult,
    PlanStep,
    ReceiptResult,
    SampleFileResult,
    SamplesResult,
    StatusResult,
)
from agent.protocol.labels import Label
from agent.protocol.state import ReportedState
from agent.service.bundles import Bundles
from agent.service.control_server import ControlError
from agent.service.desired import DesiredKeeper
from agent.service.drift_reports import DriftReports
from agent.service.hold import Hold
from agent.service.labels import LabelDesk
from agent.service.models import Models
from agent.service.reporting import model_report
from agent.service.sample_desk import SampleDesk
from agent.service.telemetry_budget import TelemetryBudget
from agent.store.events import EventLog
from agent.transport.errors import IdentityError


class Technician:
    """Answers the ``edgeward`` command (:class:`agent.service.control_server.ControlHandler`)."""

    def __init__(
        self,
        models: Models,
        desired: DesiredKeeper,
        hold: Hold,
        events: EventLog,
        drift: DriftReports,
        bundles: Bundles,
        budget: TelemetryBudget,
        samples: SampleDesk,
        labels: LabelDesk,
        *,
        report: Callable[[], Awaitable[ReportedState]],
        connected: Callable[[], bool],
        link_problem: Callable[[], str | None],
        sync: Callable[[], None],
    ) -> None:
        self._models = models
        self._desired = desired
        self._hold = hold
        self._events = events
        self._drift = drift
        self._bundles = bundles
        self._budget = budget
        self._samples = samples
        self._labels = labels
        self._report = report
        self._connected = connected
        self._link_problem = link_problem
        self._sync = sync

    async def status(self) -> StatusResult:
        return StatusResult(
            state=await self._report(),
            connected=self._connected(),
            link_problem=None if self._connected() else self._link_problem(),
            hold=self._hold.reason,
            desired_at=self._desired.verified_at,
        )

    async def models(self, model: str | None) -> ModelsResult:
        reports = tuple(model_report(view) for view in self._models.views())
        if model is not None:
            self._known(model)
            reports = tuple(report for report in reports if report.model == model)
        return ModelsResult(models=reports)

    async def drift(self, model: str | None, limit: int) -> DriftResult:
        if model is not None:
            self._known(model)
        return DriftResult(reports=await self._drift.reports(model, limit))

    async def events(self, limit: int) -> EventsResult:
        return EventsResult(events=tuple(await self._events.newest(limit)))

    async def plan(self) -> PlanResult:
        steps = tuple(
            PlanStep(
                action=step.action.value,
                model=step.model,
                deployment=step.deployment,
                release=step.release,
                reason=step.reason,
            )
            for step in self._models.plan().steps
        )
        return PlanResult(steps=steps, refusal=self._desired.refusal)

    async def data(self) -> DataResult:
        return DataResult(ledger=await self._budget.account())

    async def samples(self, model: str | None, limit: int) -> SamplesResult:
        return await self._samples.show(model, limit)

    async def samples_clear(self, who: str) -> Done:
        return await self._samples.clear(who)

    async def samples_export(self, after: str | None, who: str) -> SampleFileResult:
        return await self._samples.export(after, who)

    async def label(self, model: str | None, labels: Sequence[Label]) -> LabelResult:
        return LabelResult(answers=await self._labels.join(self._only(model), labels))

    async def accuracy(self, model: str | None) -> AccuracyResult:
        if model is not None:
            self._known(model)
        figures, counts = await self._labels.report(model)
        return AccuracyResult(figures=figures, counts=counts)

    async def hold(self, reason: str | None) -> Done:
        await self._hold.set(reason)
        return Done(
            message="held: what runs keeps running, and nothing new is installed until `edgeward resume`"
        )

    async def resume(self) -> Done:
        if self._hold.reason is None:
            return Done(message="the device was not held")
        await self._hold.clear()
        return Done(message="resumed: the desired state is followed again")

    async def rollback(self, model: str, reason: str | None) -> Done:
        self._known(model)
        state = self._models.states()[model]
        try:
            event = request_rollback(state, reason)
        except NothingToRollBackToError as error:
            raise ControlError("nothing-to-roll-back", str(error)) from error
        if state.deployment is not None and state.deployment.report_pending:
            raise ControlError("busy", f"model {model}: an outcome is being recorded; try again in a moment")
        self._models.post(model, event)
        return Done(message=f"model {model}: rolling back; `edgeward models {model}` shows how it goes")

    async def accept(self, model: str | None, *, now: bool, who: str) -> Done:
        if model is not None:
            self._known(model)
        names = sorted(self._models.states()) if model is None else [model]
        accepted = [name for name in names if await self._models.accept(name, by=who, now=now)]
        if not accepted:
            whose = "" if model is None else f"model {model}: "
            raise ControlError("nothing-to-accept", f"{whose}no update waits on this device")
        several = f"{len(accepted)} updates" if len(accepted) > 1 else f"the update of model {accepted[0]}"
        return Done(message=f"accepted {several}; `edgeward models` shows how it goes")

    async def sync(self) -> Done:
        self._sync()
        where = (
            "the hub is being asked and told now"
            if self._connected()
            else "no link to the hub; it is tried again"
        )
        return Done(message=where)

    async def bundle_install(self, descriptor: int) -> BundleResult:
        return BundleResult(report=await self._bundles.install(descriptor))

    async def bundle_status(self) -> BundleResult:
        return BundleResult(report=self._bundles.report())

    async def bundle_receipt(self) -> ReceiptResult:
        try:
            return await self._bundles.receipt()
        except IdentityError as error:
            raise ControlError("refused", str(error)) from error

    def _only(self, model: str | None) -> str:
        """The model that is meant; where there is one alone it need not be named."""
        if model is not None:
            self._known(model)
            return model
        names = sorted(self._models.states())
        if len(names) != 1:
            raise ControlError(
                "unknown-model",
                f"which model? this device has: {', '.join(names) or 'none'}; name it: --model",
            )
        return names[0]

    def _known(self, model: str) -> None:
        known = sorted(self._models.states())
        if model not in known:
            names = ", ".join(known) or "none"
            raise ControlError("unknown-model", f"no model {model} on this device; it has: {names}")
