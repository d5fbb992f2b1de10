"""Desired state: from a retained message to what may be installed, through the verifier child."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from agent.protocol.state import DesiredState, Reason
from agent.protocol.verification import FetchedMetadata, VerifyRequest, VerifyResult
from agent.store.errors import StoreError
from agent.store.trust_db import TrustState

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
NO_NETWORK = "no-network"
NOT_STORED = "trust-not-stored"
SLOW_RETRY_SECONDS = 60.0
TRANSIENT = frozenset(
    {
        "expired",
        "missing-metadata",
        "verifier-error",
        "verifier-died",
        "verifier-timeout",
        "verifier-not-started",
        NOT_STORED,
    }
)
"""Refusals that may be over by themselves: the hub signs anew, a file arrives, the device has room again."""
BUILD_TIME = 1_795_478_400.0
"""When this agent was written, Unix seconds: no clock is right that says less (2026-11-24)."""


class TrustPort(Protocol):
    async def load(self) -> TrustState: ...
    async def apply(self, result: VerifyResult) -> None: ...


Fetch = Callable[[str, int], Awaitable[FetchedMetadata]]
"""Name and the most bytes that are of use → the metadata file."""
Verify = Callable[[VerifyRequest, Fetch], Awaitable[VerifyResult]]


def trusted_time(system: float, hub: float, *, build: float = BUILD_TIME) -> float:
    """The latest of what is known: the system's clock, this build, the newest hub-signed time (Unix seconds)."""
    return max(system, build, hub)


class DesiredKeeper:
    """Takes desired states, one at a time, the newest one only; what it verified is kept until a newer one is.

    Without a network the check is tried again soon, and a refusal that may be over by itself is checked again slowly;
    whatever serves goes on serving.
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
    ) -> None:
        self._device = device
        self._trust = trust
        self._verify = verify
        self._fetch = fetch
        self._changed = changed
        self._count = count
        self._newest: str | None = None
        self._arrived = asyncio.Event()
        self._asking = asyncio.Lock()
        self.verified: VerifyResult | None = None
        """The newest desired state that was taken; None before the first since the start."""
        self.verified_at: float | None = None
        self.refusal: Reason | None = None
        """Why the newest one as a whole was not taken, if it was not."""

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
        """Check what arrives, until cancelled."""
        attempt = 0
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            director = self._newest
            if director is None:
                continue
            refusal = await self._check(director)
            code = None if refusal is None else refusal.code
            if code == NO_NETWORK:
                wait = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                attempt += 1
            elif code in TRANSIENT:
                wait, attempt = SLOW_RETRY_SECONDS, 0
            else:
                attempt = 0
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):  # not wait_for: before 3.12 it may swallow a cancellation
                    await self._arrived.wait()
            self._arrived.set()

    async def _check(self, director: str) -> Reason | None:
        """Verify and keep the outcome; a refusal, which is returned, changes nothing but :attr:`refusal`."""
        result = await self._asked(director, self._fetch)
        if result.refusal is not None and result.refusal.code == NO_NETWORK:
            self.refusal = result.refusal
            self._changed()
            return self.refusal
        if result.refusal is not None:
            self._refuse(result.refusal)
            return result.refusal
        self._take_verified(result)
        return None

    def _take_verified(self, result: VerifyResult) -> None:
        self.verified, self.verified_at, self.refusal = result, time.time(), None
        for refused in result.refused:
            self._count(f"refused-{refused.reason.code}")
        log.info(
            "desired state verified",
            extra={"assignments": len(result.assignments), "refused": len(result.refused)},
        )
        self._changed()

    async def offered(self, director: str, fetch: Fetch, bundle: bytes) -> VerifyResult:
        """Check what came by another way than the network, with the metadata beside it; nothing is taken yet."""
        return await self._asked(director, fetch, bundle)

    async def adopt(self, director: str) -> Reason | None:
        """Take a document that was :meth:`offered` and found good, now or before a restart, without asking anyone.

        It is checked once more, against what is stored: where something newer was taken meanwhile, that stays, and this is
        refused (the reason is returned).
        """

        async def stored(name: str, _maximum_bytes: int) -> FetchedMetadata:
            return FetchedMetadata(data=(await self._trust.load()).metadata.get(name))

        result = await self._asked(director, stored)
        if result.refusal is None:
            self._newest = director
            self._take_verified(result)
        return result.refusal

    async def _asked(self, director: str, fetch: Fetch, bundle: bytes | None = None) -> VerifyResult:
        """:meth:`_ask`; a device that can't remember is a refusal."""
        try:
            return await self._ask(director, fetch, bundle)
        except (StoreError, sqlite3.Error, OSError) as error:
            # What can't be remembered is not taken: a mark that is lost would let an older document in later.
            return VerifyResult(refusal=Reason(code=NOT_STORED, text=f"the trust database failed: {error}"))

    async def _ask(self, director: str, fetch: Fetch, bundle: bytes | None) -> VerifyResult:
        """Have the verifier check ``director``; what it verified is stored when this returns."""
        async with self._asking:
            state = await self._trust.load()
            request = VerifyRequest(
                device=self._device,
                root=state.root,
                metadata=state.metadata,
                marks=state.marks,
                now=trusted_time(time.time(), state.hub_time),
                director=director.encode(),
                bundle=bundle,
            )
            result = await self._verify(request, fetch)
            await self._trust.apply(result)
            return result

    def _refuse(self, reason: Reason) -> None:
        self.refusal = reason
        self._count("desired-refused")
        log.warning("desired state refused", extra={"code": reason.code, "reason": reason.text})
        self._changed()
