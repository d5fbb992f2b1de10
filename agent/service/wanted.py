"""What the hub and people ask of the device now, and what follows from it for each model."""

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from agent.core.events import Event
from agent.core.model_state import ModelState
from agent.core.preconditions import Order, Waiting
from agent.core.reconcile import HELD_BY_HUB, Action, Plan, PlannedStep, reconcile, replaces_withdrawn
from agent.protocol.state import Reason
from agent.protocol.verification import VerifiedAssignment, VerifyResult


class Wanted(Struct, frozen=True, kw_only=True):
    """What decisions are made against."""

    verified: VerifyResult | None
    """None before the first desired state since the start: then nothing new begins, and what was begun waits if that is
    :attr:`unverified`."""
    hold: Reason | None
    unverified: Reason | None = None
    """Why nothing may be installed although it was verified before this start."""
    expired: Callable[[str], Reason | None] = lambda _model: None
    """Why nothing of a model may be installed although it was verified once: what allowed it has expired since."""

    brought: frozenset[str] = frozenset()
    """Deployments whose bytes came by a bundle."""

    @property
    def assignments(self) -> tuple[VerifiedAssignment, ...]:
        """What may be installed."""
        return () if self.verified is None else self.verified.assignments

    @property
    def withdrawn(self) -> dict[str, set[int]]:
        """Model → releases that are installed here and that its approvers have taken back."""
        found: dict[str, set[int]] = {}
        for each in () if self.verified is None else self.verified.withdrawn:
            found.setdefault(each.model, set()).add(each.release)
        return found

    def plan(self, states: Mapping[str, ModelState], waiting: Mapping[str, Waiting]) -> Plan:
        """What is meant to happen to every model, and why; a run that waits says for what."""
        plan = self._reconcile(self.verified or VerifyResult(), states)
        return Plan(steps=tuple(_waits(step, waiting.get(step.model)) for step in plan.steps))

    def next_event(self, state: ModelState) -> Event | None:
        """What should happen to one model now, if anything should."""
        if self.verified is None:
            return None
        mine = VerifyResult(
            assignments=tuple(each for each in self.verified.assignments if each.model == state.model),
            refused=tuple(each for each in self.verified.refused if each.model == state.model),
        )
        plan = self._reconcile(mine, {state.model: state})
        return next((step.event for step in plan.steps if step.event is not None), None)

    def order(self, state: ModelState, deployment: str) -> Order:
        """What is asked of a deployment under way; a technician's hold does not keep a withdrawn release."""
        urgent = replaces_withdrawn(state, self.withdrawn.get(state.model, ()))
        unverified = self.unverified if self.verified is None else None
        hold = unverified or self.expired(state.model) or (None if urgent else self.hold)
        asked = [each for each in self.assignments if each.assignment.deployment == deployment]
        if hold is None and any(each.assignment.hold for each in asked):
            hold = HELD_BY_HUB
        return Order(hold=hold, urgent=urgent, brought=deployment in self.brought)

    def _reconcile(self, verified: VerifyResult, states: Mapping[str, ModelState]) -> Plan:
        expired = {name: reason for name in states if (reason := self.expired(name)) is not None}
        return reconcile(
            verified.assignments,
            verified.refused,
            states,
            hold=self.hold,
            withdrawn=self.withdrawn,
            expired=expired,
        )


def _waits(step: PlannedStep, waiting: Waiting | None) -> PlannedStep:
    if step.action is not Action.CONTINUE or waiting is None:
        return step
    return replace(step, action=Action.WAIT, reason=waiting.reason)
