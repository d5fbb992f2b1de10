"""DESIGN §5's six invariants after every step of a device that may crash anywhere.

The world is small and honest: a disk that keeps what was saved, artifacts that a fetch brings one by one and that
garbage collection takes, an address that something answers on, an outbox. A crash keeps disk, artifacts and outbox
and loses everything else; the command it interrupted may have been done, half done, or not at all.
"""

import copy
import hashlib
from typing import cast

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from agent.core.commands import (
    ActivateCandidate,
    AwaitPermission,
    Command,
    CommitRelease,
    DiscardCandidate,
    FetchRelease,
    ProbeCandidate,
    ReportOutcome,
    ReportReversal,
    RestorePrevious,
    ServeActive,
    WatchProbation,
)
from agent.core.errors import IllegalEventError, NothingToRollBackToError, StaleEventError
from agent.core.events import (
    Accepted,
    Activated,
    ActivationFailed,
    BytesLost,
    Event,
    Fetched,
    FetchFailed,
    NotInstallable,
    Permitted,
    ProbationFailed,
    ProbationPassed,
    ProbeFailed,
    ProbePassed,
    Reported,
    RolledBack,
    Steady,
    Superseded,
    VariantRejected,
)
from agent.core.model_state import ModelState
from agent.core.preconditions import Battery, Conditions, Facts, Order, Waiting, judge_install
from agent.core.reconcile import Action, reconcile
from agent.core.slots import InstalledRelease
from agent.core.update_machine import STARTS_IN_A_ROW, TRANSITIONS, recover, request_rollback, step
from agent.protocol.state import Acceptance, Assignment, Measurement, Phase, Reason, VariantPolicy
from agent.protocol.verification import RefusedAssignment, ReleaseFile, VerifiedAssignment

MODEL = "digits"
VARIANTS = ("onnx-fp32", "onnx-int8")
WHY = Reason(code="test", text="because the test says so")


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def assignment(release: int, deployment: str, *, hold: bool = False) -> VerifiedAssignment:
    manifest = ReleaseFile(filename="manifest.json", sha256=digest(release, "manifest"), size=1)
    return VerifiedAssignment(
        model=MODEL,
        release=release,
        assignment=Assignment(deployment=deployment, hold=hold),
        manifest=manifest,
        files=(manifest,),
    )


def installed(command: FetchRelease) -> InstalledRelease:
    wanted = command.assignment
    variant = next(name for name in VARIANTS if name not in command.tried)
    files = (wanted.manifest.sha256, digest(wanted.release, variant), digest(wanted.release, "golden"))
    return InstalledRelease(
        deployment=command.deployment,
        model=MODEL,
        release=wanted.release,
        variant=variant,
        artifact=files[1],
        manifest=files[0],
        variant_policy=VariantPolicy.MOST_ACCURATE,
        files=files,
    )


def measurement(candidate: InstalledRelease) -> Measurement:
    return Measurement(
        variant=candidate.variant,
        artifact=candidate.artifact,
        size_bytes=1,
        p50_ms=1,
        p99_ms=2,
        peak_memory_mib=3,
        golden_max_error=0,
        golden_class_agreement=1,
        budget_p99_ms=10,
        budget_memory_mib=10,
    )


class World:
    """One device and one model. ``good`` says, for each decision in turn, whether the next command succeeds."""

    def __init__(self) -> None:
        self.disk = msgspec.json.encode(ModelState(model=MODEL))
        self.artifacts: set[str] = set()
        self.outbox: dict[str, list[tuple[Phase, Reason | None]]] = {}
        self.reversed: set[str] = set()
        self.commits: list[InstalledRelease] = []
        self.clock = 1.0
        self.answering: InstalledRelease | None = None
        self.pending: list[Command] = []
        self.boots = 0
        self.conditions = Conditions()
        self.order = Order()
        """What people and the hub ask for, beside what is accepted."""
        self.charged = True
        self.permitted: dict[str, Acceptance | None] = {}
        """Deployment → what was accepted when it was let through."""

    @property
    def state(self) -> ModelState:
        return msgspec.json.decode(self.disk, type=ModelState)

    def apply(self, event: Event) -> None:
        self.clock += 1
        before = self.state
        after, commands = step(before, event, self.clock)
        if any(isinstance(command, RestorePrevious | DiscardCandidate) for command in commands):
            # The run's own work is cancelled; what other commands began (serving, reporting) goes on.
            work = FetchRelease | AwaitPermission | ProbeCandidate | ActivateCandidate | WatchProbation
            self.pending = [command for command in self.pending if not isinstance(command, work)]
        self.disk = msgspec.json.encode(after)
        if isinstance(event, ProbationPassed):
            assert after.slots.active is not None
            self.commits.append(after.slots.active)
        self.pending += commands

    def collect(self) -> None:
        fetching = [command for command in self.pending if isinstance(command, FetchRelease)]
        keep = set(self.state.slots.referenced())
        for command in fetching:
            keep |= set(installed(command).files)
        self.artifacts &= keep

    def perform(  # noqa: PLR0911, PLR0912, C901 - one case and one return a command read best
        self, command: Command, *, good: bool, complete: bool = True
    ) -> Event | None:
        """Do a command's work in the world; return its answer. ``complete`` False: a crash cuts it short."""
        match command:
            case FetchRelease():
                files = installed(command).files
                self.artifacts |= set(files if complete and good else files[:1])
                fetched = Fetched(deployment=command.deployment, candidate=installed(command))
                return fetched if good else FetchFailed(deployment=command.deployment, reason=WHY)
            case AwaitPermission(candidate=candidate):
                if self.waiting(command) is not None:
                    return None
                if good:
                    self.permitted[command.deployment] = command.accepted
                    return Permitted(deployment=command.deployment)
                slots = self.state.slots
                kept = {name for slot in (slots.active, slots.previous) if slot for name in slot.files}
                self.artifacts -= set(candidate.files[-1:]) - kept
                kind = NotInstallable if command.refetched else BytesLost
                return kind(deployment=command.deployment, reason=WHY)
            case ProbeCandidate(candidate=candidate):
                assert set(candidate.files) <= self.artifacts
                if good:
                    return ProbePassed(deployment=command.deployment, measurement=measurement(candidate))
                if len(command.tried) + 1 < len(VARIANTS):
                    return VariantRejected(deployment=command.deployment, reason=WHY)
                return ProbeFailed(deployment=command.deployment, reason=WHY)
            case ActivateCandidate(candidate=candidate):
                if good:
                    self.answering = candidate
                    return Activated(deployment=command.deployment)
                return ActivationFailed(deployment=command.deployment, reason=WHY)
            case WatchProbation():
                if good:
                    return ProbationPassed(deployment=command.deployment)
                return ProbationFailed(deployment=command.deployment, reason=WHY)
            case RestorePrevious(target=target):
                self.answering = target
                return RolledBack(deployment=command.deployment)
            case _:
                return self.perform_closing(command)

    def waiting(self, command: FetchRelease | AwaitPermission) -> Waiting | None:
        """What the command waits for, by the judgement that the service asks."""
        battery = Battery(percent=50, plugged=False) if self.charged else Battery(percent=5, plugged=False)
        order = replace(self.order, accepted=command.accepted)
        return judge_install(self.conditions, Facts(now=self.clock, battery=battery), order, MODEL)

    def blocked(self, command: Command) -> bool:
        return isinstance(command, AwaitPermission) and self.waiting(command) is not None

    def perform_closing(self, command: Command) -> Event | None:
        match command:
            case ServeActive(active=active):
                self.answering = active
            case CommitRelease() | DiscardCandidate():
                self.collect()
            case ReportOutcome():
                row = (command.outcome, command.reason)
                if row not in self.outbox.setdefault(command.deployment, []):
                    self.outbox[command.deployment].append(row)
                return Reported(deployment=command.deployment)
            case ReportReversal():
                self.reversed.add(command.deployment)
                return Reported(deployment=command.deployment)
        return None

    def run_next(self, *, good: bool) -> None:
        if self.blocked(self.pending[0]):
            return  # it stays where it is
        answer = self.perform(self.pending.pop(0), good=good)
        if answer is not None:
            self.apply(answer)

    def crash(self, *, done: float, lost_again: bool) -> None:
        """Lose memory; ``done`` is how far the first pending command came: 0 not, 0.5 half, 1 all but its answer."""
        if self.pending and done:
            self.perform(self.pending[0], good=True, complete=done == 1)
        self.answering, self.pending = None, []
        self.clock += 1
        self.boots += 1
        state, commands = recover(self.state, self.clock, f"boot-{self.boots}")
        self.disk = msgspec.json.encode(state)
        if not lost_again:
            self.pending = list(commands)
            return
        self.crash(done=0, lost_again=False)


class Device(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.deployments = 0
        self.assignments: list[VerifiedAssignment] = []
        self.refused: list[RefusedAssignment] = []
        self.seen_deployments: list[str] = []
        self.held = False
        self.withdrawn: set[int] = set()
        self.accepted: dict[str, Acceptance] = {}
        self.floor = 0

    def new_id(self) -> str:
        self.deployments += 1
        self.seen_deployments.append(f"d{self.deployments}")
        return self.seen_deployments[-1]

    # --- the hub -------------------------------------------------------------------------------------------------

    @initialize(releases=st.integers(0, 3), operator=st.booleans())
    def earlier_releases(self, releases: int, operator: bool) -> None:  # noqa: FBT001 - passed by name
        for _ in range(releases):
            self.go_on(above=1, answers=[True] * 8)
        self.world.permitted.clear()
        self.world.conditions = Conditions(operator=operator, minimum_battery_percent=20)

    @rule(release=st.integers(1, 9), hold=st.sampled_from([False, False, True]), commands=st.integers(0, 6))
    def desire_another(self, release: int, hold: bool, commands: int) -> None:  # noqa: FBT001 - passed by name
        self.get_going(commands)
        self.desire(release=release, hold=hold, reconcile=commands != 1)

    def desire(self, *, release: int, hold: bool, reconcile: bool) -> None:
        self.assignments, self.refused = [assignment(release, self.new_id(), hold=hold)], []
        if reconcile:
            self.reconcile()

    @rule(release=st.integers(1, 5), old=st.booleans(), data=st.data())
    def desire_something_odd(self, release: int, old: bool, data: st.DataObject) -> None:  # noqa: FBT001 - as above
        """Nothing, a release that the verifier refused, or a deployment that the device has seen before."""
        self.assignments, self.refused = [], []
        if old and self.seen_deployments:
            self.assignments = [assignment(release, data.draw(st.sampled_from(self.seen_deployments)))]
        elif release > 1:
            refused = RefusedAssignment(model=MODEL, release=release, deployment=self.new_id(), reason=WHY)
            self.refused = [refused]
        self.reconcile()

    # --- the device ----------------------------------------------------------------------------------------------

    @rule()
    def reconcile(self) -> None:
        state = self.world.state
        hold = Reason(code="held", text="a technician holds the device") if self.held else None
        withdrawn = {MODEL: self.withdrawn}
        plan = reconcile(self.assignments, self.refused, {MODEL: state}, hold=hold, withdrawn=withdrawn)
        events = [planned.event for planned in plan.steps if planned.event is not None]
        assert len(events) <= 1
        urgent = state.slots.active is not None and state.slots.active.release in self.withdrawn
        begins = any(planned.action is Action.START for planned in plan.steps)
        assert not (self.held and begins and not urgent)
        assert not (urgent and any(planned.reason == hold for planned in plan.steps))
        for event in events:
            self.world.apply(event)  # a planned event is legal, or this raises

    @rule(above=st.integers(-1, 1), answers=st.lists(st.sampled_from([True] * 5 + [False]), max_size=5))
    def go_on(self, above: int, answers: list[bool]) -> None:
        """Run the next commands, each with its answer; a device at rest is given something to do first."""
        if not self.world.pending and not self.held:
            release = max(1, self.world.state.slots.floor + above)
            self.desire(release=release, hold=False, reconcile=True)
        for good in answers:
            if self.world.pending:
                self.world.run_next(good=good)

    @rule()
    def refuse_every_variant(self) -> None:
        while self.world.state.phase in (Phase.FETCHING, Phase.READY, Phase.PROBING) and self.world.pending:
            if self.world.blocked(self.world.pending[0]):
                return
            self.world.run_next(good=not isinstance(self.world.pending[0], ProbeCandidate))

    def get_going(self, commands: int) -> None:
        """Bring the device into the middle of a run: one to five commands of a new or the present one."""
        if commands:
            self.go_on(above=1, answers=[True] * (commands - 1))

    @rule(commands=st.integers(0, 6), done=st.sampled_from([0, 0.5, 1]), lost_again=st.booleans())
    def crash(self, commands: int, done: float, lost_again: bool) -> None:  # noqa: FBT001 - passed by name
        self.get_going(commands)
        self.world.crash(done=done, lost_again=lost_again)

    @rule(commands=st.integers(0, 6))
    def crash_for_ever(self, commands: int) -> None:
        """Whatever kills the agent again and again, in whatever phase, no deployment survives it."""
        self.get_going(commands)
        for _ in range(3 * (STARTS_IN_A_ROW + 1)):
            self.world.crash(done=0, lost_again=False)
        deployment = self.world.state.deployment
        assert deployment is None or deployment.final

    @rule(charged=st.booleans())
    def the_battery(self, charged: bool) -> None:  # noqa: FBT001 - passed by name
        self.world.charged = charged

    @rule()
    def run_steadily(self) -> None:
        state = self.world.state
        if state.deployment is not None and (state.phase, Steady) in TRANSITIONS:
            pending = list(self.world.pending)
            self.world.apply(Steady(deployment=state.deployment.deployment))
            assert self.world.pending == pending

    # --- people --------------------------------------------------------------------------------------------------

    @rule(held=st.sampled_from([False, False, True]))
    def hold_or_resume(self, held: bool) -> None:  # noqa: FBT001 - passed by name
        self.held = held
        self.world.order = replace(self.world.order, hold=WHY if held else None)
        self.reconcile()

    @rule(commands=st.integers(1, 6))
    def withdraw_what_is_active(self, commands: int) -> None:
        active = self.world.state.slots.active
        if active is not None:
            self.withdrawn.add(active.release)
        self.get_going(commands)

    @rule(commands=st.integers(0, 4), now=st.booleans())
    def operator_accepts(self, commands: int, now: bool) -> None:  # noqa: FBT001 - passed by name
        self.get_going(commands)
        state = self.world.state
        if state.deployment is None or (state.phase, Accepted) not in TRANSITIONS:
            return
        said = Acceptance(by="maria", at=self.world.clock, now=now)
        self.accepted[state.deployment.deployment] = said
        # The service interrupts the command that is repeated with the acceptance in it.
        self.world.pending = [
            c for c in self.world.pending if not isinstance(c, FetchRelease | AwaitPermission)
        ]
        self.world.apply(Accepted(deployment=state.deployment.deployment, acceptance=said))

    @rule(commands=st.integers(0, 6))
    def technician_rolls_back(self, commands: int) -> None:
        self.get_going(commands)
        state = self.world.state
        try:
            event = request_rollback(state, "it squeaks")
        except NothingToRollBackToError:
            assert state.slots.previous is None
            return
        if state.phase is Phase.ROLLING_BACK or (state.deployment and state.deployment.report_pending):
            self.refuses(event)
        else:
            self.world.apply(event)

    # --- mistakes ------------------------------------------------------------------------------------------------

    @invariant()
    def an_event_out_of_place_changes_nothing(self) -> None:
        state = self.world.state
        named = state.deployment.deployment if state.deployment else "d0"
        out_of_place: list[Event] = [
            kind(deployment=named)
            for kind in (Permitted, Activated, ProbationPassed, RolledBack, Reported)
            if (state.phase, kind) not in TRANSITIONS
        ]
        for event in out_of_place:
            assert not isinstance(self.refuses(event), StaleEventError)
        if state.deployment is not None:
            late = Superseded(deployment="never-heard-of", reason=WHY)
            assert isinstance(self.refuses(late), StaleEventError)

    def refuses(self, event: Event) -> IllegalEventError:
        before = self.world.disk
        try:
            step(self.world.state, event, self.world.clock)
        except IllegalEventError as error:
            assert self.world.disk == before
            return error
        raise AssertionError(f"{event} was taken in phase {self.world.state.phase}")

    # --- DESIGN §5 -----------------------------------------------------------------------------------------------

    @invariant()
    def active_slot_is_complete_and_what_answers_is_installed(self) -> None:
        slots = self.world.state.slots
        for slot in (slots.active, slots.previous, slots.candidate):
            assert slot is None or set(slot.files) <= self.world.artifacts
        answering = self.world.answering
        if answering is not None:
            assert set(answering.files) <= self.world.artifacts
            # By what it is, not by deployment: an adopted release goes on under the id that found it active.
            slotted = [(slot.release, slot.artifact) for slot in (slots.active, slots.candidate) if slot]
            assert (answering.release, answering.artifact) in slotted
        elif not self.world.pending:
            assert slots.active is None

    @invariant()
    def nothing_is_probed_that_was_not_accepted_where_an_operator_accepts(self) -> None:
        for deployment, acceptance in self.world.permitted.items():
            assert acceptance == self.accepted.get(deployment)
            assert acceptance is not None or not self.world.conditions.operator

    @invariant()
    def every_run_ends_whatever_its_commands_answer(self) -> None:
        for good in (True, False):
            world = copy.deepcopy(self.world)
            # A run that waits ends as soon as what it waits for is given.
            world.conditions, world.order = Conditions(), Order()
            for _ in range(30):
                if not world.pending:
                    break
                world.run_next(good=good)
            deployment = world.state.deployment
            assert deployment is None or (deployment.final and not deployment.report_pending)

    @invariant()
    def version_never_drops_below_the_floor(self) -> None:
        slots, commits = self.world.state.slots, self.world.commits
        assert slots.floor >= self.floor
        self.floor = slots.floor
        assert slots.floor == max((release.release for release in commits), default=0)
        for position, release in enumerate(commits):
            before = [earlier.release for earlier in commits[:position]]
            assert release.release >= max(before, default=0) or release.release in before

    @invariant()
    def rollback_is_reachable_before_commit(self) -> None:
        state = self.world.state
        if state.deployment is None or state.deployment.final or state.phase is Phase.ROLLING_BACK:
            return
        undoing, commands = step(state, request_rollback(state, None), self.world.clock)
        assert [type(command) for command in commands] == [RestorePrevious]
        assert cast(RestorePrevious, commands[0]).target == state.slots.active
        ended, _ = step(undoing, RolledBack(deployment=state.deployment.deployment), self.world.clock)
        assert ended.phase is Phase.ROLLED_BACK
        assert (ended.slots.active, ended.slots.candidate) == (state.slots.active, None)

    @invariant()
    def hub_sees_exactly_one_outcome_a_deployment(self) -> None:
        state = self.world.state
        for deployment, outcomes in self.world.outbox.items():
            assert len(outcomes) == 1, (deployment, outcomes)
        told = set(self.world.outbox)
        assert told <= set(state.ended)
        waiting = state.deployment.deployment if state.deployment else None
        assert set(state.ended) - told <= {waiting}
        for deployment in self.world.reversed:
            assert self.world.outbox[deployment][0][0] is Phase.COMMITTED

    @invariant()
    def recovery_is_idempotent(self) -> None:
        for boot in (f"boot-{self.world.boots}", "another"):
            once, commands = recover(self.world.state, self.world.clock, boot)
            assert recover(once, self.world.clock + 5, boot) == (once, commands)


Device.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestDevice = Device.TestCase
