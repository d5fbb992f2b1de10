"""Bundles that a technician hands in: checked like everything from the hub, copied, then followed like a desired state.

A bundle goes through the same verifier, and what it orders through the same machine. The only difference is where the
bytes come from; so what was taken from a bundle is superseded by a newer document online, and the other way round.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.core.model_state import ModelState, tried
from agent.protocol import telemetry
from agent.protocol.bundle import BundleDevice, BundleOrder
from agent.protocol.control import BundleReport, BundleStage, ReceiptResult
from agent.protocol.ids import Sha256, UnixTime
from agent.protocol.state import FINAL_PHASES, DeploymentReport, Phase, Reason
from agent.protocol.verification import VerifiedAssignment
from agent.service.bundle_copy import INCOMPLETE, BundleCopier, Copy, Copying
from agent.service.control_server import ControlError
from agent.service.desired import NO_NETWORK, DesiredKeeper, TrustPort
from agent.service.ports import Recorder, StatePort
from agent.store.errors import StoreError
from agent.transport.bundle_file import GONE, BundleSource
from agent.transport.errors import BundleError

log = logging.getLogger(__name__)

KEY = "bundle"
LOOK_SECONDS = 1.0
"""How often the deployments of a bundle are looked at, until each has ended."""
ROLLBACK, WRONG_DEVICE, WRONG_HUB = "rollback-attack", "wrong-device", "wrong-hub"
SHOWN = 5


class TakenBundle(Struct, frozen=True, kw_only=True):
    """What is remembered of a bundle that was taken."""

    bundle: Sha256
    offered: UnixTime
    director: str | None
    """The document; None where only its bytes were of use."""
    orders: tuple[BundleOrder, ...]
    digests: tuple[Sha256, ...]
    """What was copied: kept until the last deployment has ended."""
    copied_bytes: int
    ended: tuple[DeploymentReport, ...] = ()
    """Its deployments that have ended, as they ended."""


class RefusedBundle(Struct, frozen=True, kw_only=True):
    bundle: Sha256
    offered: UnixTime
    reason: Reason


class BundleBook(Struct, frozen=True, kw_only=True):
    """What is persisted: the newest that was taken, and a newer one that was refused, if there is one."""

    taken: TakenBundle | None = None
    refused: RefusedBundle | None = None


class _Work(Struct, kw_only=True):
    """A bundle at work."""

    bundle: Sha256
    offered: UnixTime
    stage: BundleStage = "checking"
    copying: Copying


WriteReceipt = Callable[[str, tuple[DeploymentReport, ...], Reason | None], Awaitable[str]]
"""Bundle, its deployments, why it was refused → the signed receipt."""


class Bundles:
    """One bundle at a time."""

    def __init__(
        self,
        device: str,
        desired: DesiredKeeper,
        trust: TrustPort,
        copier: BundleCopier,
        state: StatePort,
        recorder: Recorder,
        *,
        states: Callable[[], Mapping[str, ModelState]],
        reports: Callable[[], tuple[DeploymentReport, ...]],
        write_receipt: WriteReceipt,
        supervise: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        clock: Callable[[], float],
        count: Callable[[str], None],
    ) -> None:
        self._device = device
        self._desired = desired
        self._trust = trust
        self._copier = copier
        self._state = state
        self._recorder = recorder
        self._states = states
        self._reports = reports
        self._write_receipt = write_receipt
        self._supervise = supervise
        self._clock = clock
        self._count = count
        self._book = BundleBook()
        self._work: _Work | None = None
        self._changed = asyncio.Event()

    # --- For the technician -------------------------------------------------------------------------------------

    async def install(self, descriptor: int) -> BundleReport:
        """Take over an open bundle and begin; what becomes of it, :meth:`report` tells.

        Raises:
            ControlError: ``not-a-bundle``: it is none, or not a whole one; ``busy``: another one is at work.
        """
        try:
            source = await BundleSource.open(descriptor)
        except BundleError as error:
            self._count("bundle-refused")
            raise ControlError("not-a-bundle", str(error)) from error
        if self._work is not None:
            await source.close()
            raise ControlError("busy", "another bundle is being copied; see: edgeward bundle status")
        self._work = _Work(bundle=source.opened.digest, offered=self._clock(), copying=Copying())
        self._supervise(self._take(source, self._work))
        return self._at_work(self._work)

    def report(self) -> BundleReport | None:
        """The newest that was offered."""
        if self._work is not None:
            return self._at_work(self._work)
        taken, refused = self._book.taken, self._book.refused
        if refused is not None:
            return BundleReport(
                bundle=refused.bundle, offered=refused.offered, stage="refused", refusal=refused.reason
            )
        if taken is None:
            return None
        return BundleReport(
            bundle=taken.bundle,
            offered=taken.offered,
            stage="taken",
            done_bytes=taken.copied_bytes,
            total_bytes=taken.copied_bytes,
            orders=taken.orders,
            deployments=self._deployments(taken),
        )

    async def receipt(self) -> ReceiptResult:
        """The newest one's receipt, as things stand.

        Raises:
            ControlError: ``no-bundle``: none was offered; ``busy``: it is being checked or copied.
            IdentityError: the device's key can't be used.
        """
        await self._note_outcomes()
        report = self.report()
        if report is None:
            raise ControlError("no-bundle", "no bundle has been offered to this device")
        if report.stage not in ("taken", "refused"):
            raise ControlError("busy", "the bundle is being copied; see: edgeward bundle status")
        envelope = await self._write_receipt(report.bundle, report.deployments, report.refusal)
        return ReceiptResult(envelope=envelope, final=report.stage == "refused" or not self._open)

    # --- For the device -----------------------------------------------------------------------------------------

    @property
    def pinned(self) -> frozenset[str]:
        """Digests that garbage collection must keep: what was brought, until it has served its purpose."""
        taken = self._book.taken
        return frozenset(taken.digests) if taken is not None and self._open else frozenset()

    @property
    def brought(self) -> frozenset[str]:
        """Deployments whose bytes are here already, and that may still begin or go on."""
        return self._open

    async def load(self) -> None:
        """What was known before the start."""
        data = await self._state.get(KEY)
        try:
            self._book = BundleBook() if data is None else msgspec.json.decode(data, type=BundleBook)
        except msgspec.DecodeError:  # of another version of the agent: nothing that serves depends on it
            self._count("bundle-forgotten")
            log.exception("what was known of bundles can't be read")

    async def run(self) -> None:
        """Go on with what a bundle ordered before the start, then note each outcome; until cancelled."""
        taken = self._book.taken
        if taken is not None and taken.director is not None and self._open:
            refusal = await self._desired.adopt(taken.director)
            if refusal is not None:
                log.info("the bundle's orders are not followed any more", extra={"why": refusal.text})
        while True:
            await self._note_outcomes()
            if not self._open:
                await self._changed.wait()
            await asyncio.sleep(LOOK_SECONDS)
            self._changed.clear()

    # --- At work ------------------------------------------------------------------------------------------------

    async def _take(self, source: BundleSource, work: _Work) -> None:
        try:
            await self._install(source, work)
        except BundleError as error:
            await self._refuse(work, Reason(code=error.code, text=str(error)))
        except (StoreError, sqlite3.Error, OSError) as error:
            log.exception("bundle not taken")
            await self._refuse(work, Reason(code="not-stored", text=f"this device can't keep it: {error}"))
        except Exception as error:
            log.exception("bundle not taken")
            await self._refuse(work, Reason(code="internal", text=f"the agent failed at it: {error!r}"))
        finally:
            self._work = None
            self._changed.set()
            await source.close()

    async def _install(self, source: BundleSource, work: _Work) -> None:
        mine = await self._for_this_device(source)
        director, assignments = await self._verified(source, mine)
        work.stage = "copying"
        await self._copier.copy(source, self._copies(assignments), work.copying)
        taken = TakenBundle(
            bundle=work.bundle,
            offered=work.offered,
            director=director,
            orders=mine.orders,
            digests=tuple(sorted({file.sha256 for each in assignments for file in each.files})),
            copied_bytes=work.copying.total_bytes,
            ended=self._ended(mine.orders),
        )
        await self._write(BundleBook(taken=taken))
        refusal = None if director is None else await self._desired.adopt(director)
        if refusal is not None:
            raise BundleError(refusal.code, _in_words(refusal))
        names = ", ".join(f"{order.model} {order.release}" for order in mine.orders)
        await self._event("info", "bundle-taken", f"a bundle was taken: {names}")

    async def _for_this_device(self, source: BundleSource) -> BundleDevice:
        index = source.opened.index
        root = sha256((await self._trust.load()).root).hexdigest()
        if not any(file.kind == "metadata" and file.sha256 == root for file in index.files):
            raise BundleError(
                WRONG_HUB,
                f"it was made by another hub ({index.hub}) than the one this device was enrolled with",
            )
        mine = index.device(self._device)
        if mine is None:
            names = [each.device for each in index.devices]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise BundleError(
                WRONG_DEVICE, f"it is for {', '.join(names[:SHOWN])}{more}; this device is {self._device}"
            )
        return mine

    async def _verified(
        self, source: BundleSource, mine: BundleDevice
    ) -> tuple[str | None, tuple[VerifiedAssignment, ...]]:
        """The document to follow, and what it orders; no document where a newer one orders the same."""
        document = await source.document(self._device)
        if document is None:
            raise BundleError(INCOMPLETE, f"the document of {self._device} is not in it")
        director = document.decode(errors="replace")
        result = await self._desired.offered(director, source.metadata, source.opened.envelope)
        if result.refusal is None:
            return director, result.assignments
        known = self._known(mine)
        if result.refusal.code == ROLLBACK and known:
            log.info("an older bundle orders what is wanted still", extra={"why": result.refusal.text})
            return None, known
        raise BundleError(
            GONE if result.refusal.code == NO_NETWORK else result.refusal.code, _in_words(result.refusal)
        )

    def _known(self, mine: BundleDevice) -> tuple[VerifiedAssignment, ...]:
        """The bundle's orders as a newer document repeats them, already verified; none where one of them is not wanted now."""
        verified = self._desired.verified
        wanted = {each.assignment.deployment: each for each in verified.assignments} if verified else {}
        found = [wanted.get(order.deployment) for order in mine.orders]
        return tuple(each for each in found if each is not None) if None not in found else ()

    def _copies(self, assignments: tuple[VerifiedAssignment, ...]) -> list[Copy]:
        """Releases whose bytes are needed still."""
        states = self._states()
        copies: list[Copy] = []
        for each in assignments:
            state, deployment = states.get(each.model), each.assignment.deployment
            current = None if state is None else state.deployment
            if current is not None and current.deployment == deployment:
                if current.phase is Phase.FETCHING:
                    copies.append(Copy(assignment=each, tried=tried(current)))
            elif state is None or deployment not in (*state.ended, _active(state)):
                copies.append(Copy(assignment=each, tried=()))
        return copies

    async def _refuse(self, work: _Work, reason: Reason) -> None:
        self._count("bundle-refused")
        log.warning("bundle refused", extra={"code": reason.code, "reason": reason.text})
        refused = RefusedBundle(bundle=work.bundle, offered=work.offered, reason=reason)
        await self._remember(replace(self._book, refused=refused))
        await self._event("warning", "bundle-refused", f"a bundle was refused: {reason.text}")

    async def _event(self, severity: telemetry.Severity, kind: str, text: str) -> None:
        await self._recorder.record(
            telemetry.Event(time=self._clock(), severity=severity, kind=kind, text=text)
        )

    async def _remember(self, book: BundleBook) -> None:
        """Write, or at least keep in mind: a disk that refuses must not end the device."""
        try:
            await self._write(book)
        except (StoreError, sqlite3.Error, OSError):
            self._count("bundle-not-remembered")
            log.exception("what became of a bundle is not written down")
            self._book = book

    async def _write(self, book: BundleBook) -> None:
        await self._state.put(KEY, msgspec.json.encode(book))
        self._book = book

    # --- Outcomes -----------------------------------------------------------------------------------------------

    @property
    def _open(self) -> frozenset[str]:
        """Deployments of the bundle that may still begin, or go on."""
        taken, verified, states = self._book.taken, self._desired.verified, self._states()
        if taken is None:
            return frozenset()
        ended = {each.deployment for each in taken.ended}.union(*(state.ended for state in states.values()))
        running = {state.deployment.deployment for state in states.values() if state.deployment is not None}
        left = {order.deployment for order in taken.orders} - ended
        if verified is None:
            return frozenset(left)
        wanted = {each.assignment.deployment for each in verified.assignments}
        return frozenset(left & (wanted | running))

    async def _note_outcomes(self) -> None:
        taken = self._book.taken
        if taken is None:
            return
        ended = self._ended(taken.orders, taken.ended)
        if ended != taken.ended:
            await self._remember(replace(self._book, taken=replace(taken, ended=ended)))

    def _ended(
        self, orders: tuple[BundleOrder, ...], before: tuple[DeploymentReport, ...] = ()
    ) -> tuple[DeploymentReport, ...]:
        """Outcomes so far: an outcome stays what it was, whatever the device runs afterwards."""
        known = {each.deployment: each for each in before}
        wanted = {order.deployment for order in orders}
        for report in self._reports():
            if report.deployment in wanted and report.phase in FINAL_PHASES:
                known.setdefault(report.deployment, report)
        return tuple(known.values())

    def _deployments(self, taken: TakenBundle) -> tuple[DeploymentReport, ...]:
        wanted = {order.deployment for order in taken.orders}
        reports = {each.deployment: each for each in self._reports() if each.deployment in wanted}
        reports |= {each.deployment: each for each in self._ended(taken.orders, taken.ended)}
        return tuple(reports.values())

    def _at_work(self, work: _Work) -> BundleReport:
        return BundleReport(
            bundle=work.bundle,
            offered=work.offered,
            stage=work.stage,
            done_bytes=work.copying.done_bytes,
            total_bytes=work.copying.total_bytes,
        )


def _active(state: ModelState) -> str | None:
    return None if state.slots.active is None else state.slots.active.deployment


def _in_words(refusal: Reason) -> str:
    if refusal.code == ROLLBACK:
        return f"it is older than what this device has seen ({refusal.text})"
    return refusal.text
