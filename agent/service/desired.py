"""Desired state: from a retained message to what may be installed, through the verifier child."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import msgspec

from agent.core.pace import Pace
from agent.core.trust_watch import TrustFacts, blocking, clock_words
from agent.core.trusted_time import HubClock, trusted_time
from agent.protocol.state import DesiredState, ModelRelease, Reason, RoleExpiry
from agent.protocol.verification import FetchedMetadata, VerifyRequest, VerifyResult
from agent.store.errors import StoreError
from agent.store.trust_db import TrustState

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
NO_NETWORK = "no-network"
NOT_STORED = "trust-not-stored"
EXPIRED = "expired"
OWN_FAULTS = ("verifier-", NOT_STORED)
"""What these codes begin with says nothing about the hub."""
SLOW_RETRY_SECONDS = 60.0
TRANSIENT = frozenset(
    {
        EXPIRED,
        "missing-metadata",
        "verifier-error",
        "verifier-died",
        "verifier-timeout",
        "verifier-not-started",
        NOT_STORED,
    }
)
"""Refusals that may be over by themselves: the hub signs anew, a file arrives, the device has room again."""
CHECK_SECONDS = 3_600.0
"""How often what was taken is checked again (below 1 KB when nothing is new): a release may be withdrawn, a role expire.
As often as a hub signs its timestamp anew."""
DIRECTOR_FILE = "director.json"
"""Under which the last document that was taken is stored."""
NOT_LOOKED = Reason(
    code="checking-orders",
    text="what the hub asked for before this start is being checked again; nothing is installed before that",
)
CHECKS_AT_ONCE = 20
CHECK_PACE_SECONDS = 2.0
"""A check is a process and up to half a second of the processor: whoever owns the broker gets a fifth of a core, not all of one."""


class TrustPort(Protocol):
    async def load(self) -> TrustState: ...
    async def apply(self, result: VerifyResult) -> None: ...


Fetch = Callable[[str, int], Awaitable[FetchedMetadata]]
"""Name and the most bytes that are of use → the metadata file."""
Verify = Callable[[VerifyRequest, Fetch], Awaitable[VerifyResult]]


class DesiredKeeper:
    """Takes desired states, one at a time, the newest one only; what it verified is kept until a newer one is.

    Without a network the check is tried again soon, a refusal that may be over by itself is checked again slowly, and what
    was taken once an hour; whatever serves goes on serving.
    """

    def __init__(
        self,
        device: str,
        trust: TrustPort,
        verify: Verify,
        fetch: Fetch,
        *,
        changed: Callable[[], None],
        count: Callable[[str], None],
        installed: Callable[[], Iterable[ModelRelease]] = tuple,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._trust = trust
        self._verify = verify
        self._fetch = fetch
        self._changed = changed
        self._count = count
        self._installed = installed
        self._clock = clock
        self._monotonic = monotonic
        self._hub_time = 0.0
        self._hub_clock = HubClock()
        self._heard: float | None = None
        self._expiry: dict[str, RoleExpiry] = {}
        self._newest: str | None = None
        self._arrived = asyncio.Event()
        self._asking = asyncio.Lock()
        self.verified: VerifyResult | None = None
        """The newest desired state that was taken; None before the first since the start."""
        self.verified_at: float | None = None
        """When the hub's word was last asked for; None: not since the start."""
        self.refusal: Reason | None = None
        """Why the newest one as a whole was not taken, if it was not."""
        self.unverified: Reason | None = NOT_LOOKED
        """Why nothing may be installed although it was verified before this start; None once that was checked again."""

    def take(self, desired: DesiredState) -> None:
        """A desired state has arrived; one for another device is refused, counted, and changes nothing else."""
        if desired.device != self._device:
            text = f"the desired state is for {desired.device}, this device is {self._device}"
            self._refuse(Reason(code="wrong-device", text=text))
            return
        self._newest = desired.director
        self._arrived.set()

    def again(self) -> None:
        """Check the newest one again: a person asked, or the network is back."""
        if self._newest is not None:
            self._arrived.set()

    async def run(self) -> None:
        """Check again what was taken before this start, then what arrives, until cancelled."""
        await self._remember()
        attempt, renewing = 0, False
        loop = asyncio.get_running_loop()
        pace = Pace(CHECKS_AT_ONCE, CHECK_PACE_SECONDS, loop.time())
        while True:
            await self._arrived.wait()
            await asyncio.sleep(pace.take(loop.time()))
            self._arrived.clear()
            director = self._newest
            if director is None:
                continue
            refusal = await self._check(director, renewing=renewing)
            code = None if refusal is None else refusal.code
            if code == NO_NETWORK:
                wait = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                attempt += 1
            elif code in TRANSIENT:
                wait, attempt = SLOW_RETRY_SECONDS, 0
            else:
                wait, attempt = CHECK_SECONDS, 0
            renewing = code is None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):  # not wait_for: before 3.12 it may swallow a cancellation
                    await self._arrived.wait()
                    renewing = False
            self._arrived.set()

    def facts(self) -> TrustFacts:
        """What is known of trust and of the clocks, now."""
        return TrustFacts(
            expiry=tuple(self._expiry.values()),
            withdrawn=() if self.verified is None else self.verified.withdrawn,
            system=self._clock(),
            hub=self._hub_time,
            hub_now=self._hub_clock.now(self._monotonic()),
            heard=self._heard,
        )

    def expired(self, model: str) -> Reason | None:
        """Why nothing of ``model`` may be installed, although it was verified once: what allowed it has expired since."""
        if self.verified is None:
            return None
        return blocking(msgspec.structs.replace(self.facts(), expiry=self.verified.expiry), model)

    async def _check(self, director: str, *, renewing: bool) -> Reason | None:
        """Verify and keep the outcome; a refusal, which is returned, changes nothing but :attr:`refusal`.

        Renewing what was taken may find no network, which is nothing to tell: it is said elsewhere that there is none.
        """
        result = await self._asked(director, self._fetch)
        refusal = result.refusal
        if refusal is not None and refusal.code == NO_NETWORK:
            if renewing:
                return None
            self.refusal = refusal
            self._changed()
            return refusal
        if refusal is None or not refusal.code.startswith(OWN_FAULTS):
            self._heard = self._clock()
        if refusal is not None:
            if refusal.code == EXPIRED:
                refusal = Reason(code=EXPIRED, text=refusal.text + clock_words(self.facts()))
            self._refuse(refusal)
            return refusal
        self._take_verified(result)
        return None

    def _take_verified(self, result: VerifyResult) -> None:
        self.unverified = None
        before = () if self.verified is None else self.verified.refused
        self.verified, self.verified_at, self.refusal = result, self._clock(), None
        for refused in result.refused if result.refused != before else ():
            self._count(f"refused-{refused.reason.code}")
        log.info(
            "desired state verified",
            extra={"assignments": len(result.assignments), "refused": len(result.refused)},
        )
        self._changed()

    async def offered(self, director: str, fetch: Fetch, bundle: bytes) -> VerifyResult:
        """Check what came by another way than the network, with the metadata beside it; nothing is taken yet."""
        return await self._asked(director, fetch, bundle)

    async def check_samples(self, envelope: bytes) -> VerifyResult:
        """Check a request for samples against the newest metadata that can be had; what was verified of that is kept.

        ``refusal`` is set where it could not be checked.
        """
        return await self._asked(None, self._fetch, samples=envelope)

    async def adopt(self, director: str) -> Reason | None:
        """Take a document that was :meth:`offered` and found good, now or before a restart, without asking anyone.

        It is checked once more, against what is stored: where something newer was taken meanwhile, that stays, and this is
        refused (the reason is returned).
        """

        async def stored(name: str, _maximum_bytes: int) -> FetchedMetadata:
            files = (await self._trust.load()).metadata
            version, _, role = name.partition(".")
            unversioned = role if version.isdecimal() else name  # roots alone are stored with their version
            return FetchedMetadata(data=files.get(name, files.get(unversioned)))

        before = self._newest
        result = await self._asked(director, stored)
        if result.refusal is None:
            if self._newest == before:  # else another one has arrived meanwhile, and is checked next
                self._newest = director
            self._take_verified(result)
        return result.refusal

    async def _remember(self) -> None:
        """Take what was taken before this start, without asking anyone.

        What waited then may have been held, withdrawn or superseded since it was fetched, or have expired: a restart, which
        anybody can have who reaches the plug, must not make that forgotten.
        """
        for seconds in (*RETRY_SECONDS, None):
            refusal = await self._taken_again()
            if self.verified is not None or refusal is None:
                self.unverified = None
                self.verified_at = None  # by what is stored here, not by what the hub says now
                break
            self.unverified = refusal
            if seconds is None or not refusal.code.startswith(OWN_FAULTS):
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._arrived.wait()
                    break
        self._changed()

    async def _taken_again(self) -> Reason | None:
        try:
            director = (await self._trust.load()).metadata.get(DIRECTOR_FILE)
        except (StoreError, sqlite3.Error, OSError) as error:
            return Reason(code=NOT_STORED, text=f"the trust database failed: {error}")
        return None if director is None else await self.adopt(director.decode())

    async def _asked(
        self, director: str | None, fetch: Fetch, bundle: bytes | None = None, samples: bytes | None = None
    ) -> VerifyResult:
        """:meth:`_ask`; a device that can't remember is a refusal."""
        try:
            return await self._ask(director, fetch, bundle, samples)
        except (StoreError, sqlite3.Error, OSError) as error:
            # What can't be remembered is not taken: a mark that is lost would let an older document in later.
            return VerifyResult(refusal=Reason(code=NOT_STORED, text=f"the trust database failed: {error}"))

    async def _ask(
        self, director: str | None, fetch: Fetch, bundle: bytes | None, samples: bytes | None
    ) -> VerifyResult:
        """Have the verifier check ``director``; what it verified is stored when this returns."""
        async with self._asking:
            state = await self._trust.load()
            request = VerifyRequest(
                device=self._device,
                root=state.root,
                metadata=state.metadata,
                marks=state.marks,
                now=self._trusted(state.hub_time),
                system=trusted_time(self._clock(), 0.0),
                director=None if director is None else director.encode(),
                bundle=bundle,
                sample_request=samples,
                installed=tuple(self._installed()),
            )
            result = await self._verify(request, fetch)
            await self._trust.apply(result)
            before = 0.0 if result.hub_time_replaced else state.hub_time
            self._hub_time = max(before, result.hub_time or 0.0)
            if result.hub_time_replaced:
                self._hub_clock = HubClock()
            self._hub_clock.note(self._hub_time, self._monotonic())
            if director is not None:
                self._note(result)
            return result

    def _trusted(self, hub: float) -> float:
        self._hub_clock.note(hub, self._monotonic())
        return trusted_time(self._clock(), self._hub_clock.now(self._monotonic()))

    def _note(self, result: VerifyResult) -> None:
        """A check that failed on the way has not seen every role: of those it did not, the last word stands."""
        if result.refusal is None:
            self._expiry.clear()
        self._expiry |= {role.role: role for role in result.expiry}

    def _refuse(self, reason: Reason) -> None:
        self.refusal = reason
        self._count("desired-refused")
        log.warning("desired state refused", extra={"code": reason.code, "reason": reason.text})
        self._changed()
