"""Requests for samples: verified by the verifier child, decided by the owner's configuration, answered, written down, fulfilled.

A hub offers a request again at each connect until it has an answer, so one that was decided is met with silence when it comes
again. A request that could not be checked (no network, a full disk) is not decided; it will come again.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Literal

import msgspec
from msgspec import Struct

from agent.config import SamplesConfig
from agent.core.pace import Pace
from agent.protocol.codec import encode_json
from agent.protocol.envelope import Envelope
from agent.protocol.errors import ProtocolError
from agent.protocol.limits import MAX_RECORD_BYTES
from agent.protocol.samples import KeptSample, VerifiedSampleRequest, open_sample_request
from agent.protocol.state import Reason
from agent.protocol.telemetry import Event, Sample, SampleAnswer
from agent.protocol.verification import VerifyResult
from agent.service.ports import Recorder, RequestStore
from agent.service.sample_keeping import SampleKeeper, of_releases
from agent.store.errors import StoreError
from agent.store.outbox import Outbox
from agent.store.sample_ledger import DecidedRequest, SampleLedger

log = logging.getLogger(__name__)

QUEUE_REQUESTS = 16
CHECKS_AT_ONCE = 20
CHECK_PACE_SECONDS = 2.0
"""A check is a process and up to half a second of the processor, as for desired states."""
TOLD = 64
"""Requests that were not proven and are yet written down and answered, in one run of the agent; further ones are counted."""
KEPT_REQUESTS = 256
"""Decided requests that a device remembers; beyond it, it takes no new one until old ones have expired."""
KEPT_AFTER_EXPIRY_SECONDS = 30 * 86_400.0
"""A clock that is set back must not make a request good again."""
WAITING = 16
"""Samples in the outbox at a time: they are the least important there, and must not fill it."""
POLL_SECONDS = 0.5
SHOWN_TOO_LARGE = 64
RECORD_EXTRA_BYTES = 256
PREFIX = "sample-request/"
_FAULTS = (StoreError, sqlite3.Error, OSError)


class StoredRequest(Struct, frozen=True, kw_only=True):
    """What a device remembers of a request that was signed as it must be."""

    verified: VerifiedSampleRequest
    accepted: bool
    answer: SampleAnswer
    chosen: tuple[str, ...] = ()
    stage: Literal["decided", "sending", "done"] = "decided"
    """``decided``: to be answered; ``sending``: to be fulfilled."""


class SampleRequests:
    """Takes requests, one at a time, and fulfils them, one at a time."""

    def __init__(
        self,
        config: SamplesConfig,
        keeper: SampleKeeper,
        outbox: Outbox,
        ledger: SampleLedger,
        state: RequestStore,
        recorder: Recorder,
        verify: Callable[[bytes], Awaitable[VerifyResult]],
        *,
        clock: Callable[[], float],
        trusted: Callable[[], float],
        count: Callable[[str], None],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """``clock``: Unix seconds; ``trusted``: trusted time; ``wake``: something waits in the outbox."""
        self._config = config
        self._keeper = keeper
        self._outbox = outbox
        self._ledger = ledger
        self._state = state
        self._recorder = recorder
        self._verify = verify
        self._clock = clock
        self._trusted = trusted
        self._count = count
        self._wake = wake
        self._arrived: asyncio.Queue[Envelope] = asyncio.Queue(QUEUE_REQUESTS)
        self._unproven: set[str] = set()
        self._unreadable: set[str] = set()
        self._owing = asyncio.Event()
        self._owing.set()

    def take(self, envelope: Envelope) -> None:
        """A request has arrived; in a callback that can't wait."""
        try:
            self._arrived.put_nowait(envelope)
        except asyncio.QueueFull:
            self._count("sample-request-queue-full")

    async def run(self) -> None:
        """Decide what arrives, until cancelled."""
        loop = asyncio.get_running_loop()
        pace = Pace(CHECKS_AT_ONCE, CHECK_PACE_SECONDS, loop.time())
        while True:
            envelope = await self._arrived.get()
            try:
                if await self._known(envelope):
                    continue
                await asyncio.sleep(pace.take(loop.time()))
                await self._decide(envelope)
            except _FAULTS:
                self._count("sample-request-undecided")
                log.exception("a request for samples could not be decided; it will be offered again")

    async def fulfil(self) -> None:
        """Answer and fulfil what was decided, also before a restart, until cancelled.

        Where the owner lets nothing go any more, what waits from before goes first of all.
        """
        if not self._config.may_leave:
            await self._withdraw()
        while True:
            await self._owing.wait()
            self._owing.clear()
            try:
                for key, stored in (await self._remembered()).items():
                    if stored.stage != "done":
                        await self._finish(key, stored)
            except _FAULTS:
                self._count("sample-request-unfinished")
                log.exception("a request for samples could not be fulfilled now")
                await asyncio.sleep(POLL_SECONDS)
                self._owing.set()

    async def _withdraw(self) -> None:
        try:
            withdrawn = await self._outbox.forget_samples()
        except _FAULTS:
            self._count("samples-not-withdrawn")
            log.exception("samples that wait for the hub could not be taken back")
            return
        if withdrawn:
            text = (
                f"{withdrawn} samples that waited for the hub stay: its owner does not let them go any more"
            )
            await self._recorder.record(self._event("samples-withdrawn", text, severity="warning"))

    async def _known(self, envelope: Envelope) -> bool:
        """Whether just this was decided already: the hub has not had the answer yet."""
        digest = sha256(envelope.payload).hexdigest()
        return any(each.verified.digest == digest for each in (await self._remembered()).values())

    async def _decide(self, envelope: Envelope) -> None:
        result = await self._verify(encode_json(envelope))
        if result.sample_request is not None:
            await self._decide_verified(result.sample_request)
        elif result.sample_refusal is not None:
            await self._refuse_unproven(envelope, result.sample_refusal)
        else:
            self._count("sample-request-undecided")
            why = "" if result.refusal is None else result.refusal.text
            log.info("a request for samples can't be checked now", extra={"why": why})

    async def _refuse_unproven(self, envelope: Envelope, reason: Reason) -> None:
        """Not proven: nothing of it is remembered, and whoever sends many such fills neither log nor outbox."""
        self._count("sample-request-refused")
        self._count(f"sample-request-{reason.code}")
        digest = sha256(envelope.payload).hexdigest()
        log.warning("request for samples refused", extra={"code": reason.code, "reason": reason.text})
        if digest in self._unproven or len(self._unproven) >= TOLD:
            return
        self._unproven.add(digest)
        try:
            request = open_sample_request(encode_json(envelope))
        except ProtocolError:
            await self._recorder.record(
                self._event("sample-request-refused", reason.text, severity="warning")
            )
            return
        await self._write_down(
            DecidedRequest(
                time=self._clock(),
                request=request.id,
                accepted=False,
                code=reason.code,
                text=reason.text,
                model=request.model,
            )
        )
        await self._recorder.record(self._event("sample-request-refused", reason.text, severity="warning"))
        await self._recorder.record(self._answer(request.id, digest, reason))

    async def _decide_verified(self, verified: VerifiedSampleRequest) -> None:
        remembered = await self._remembered()
        key, request = PREFIX + verified.request.id, verified.request
        reason = self._objection(key, remembered)
        if reason is None:
            stored = await self._accepted(verified)
        else:
            self._count("sample-request-refused")
            self._count(f"sample-request-{reason.code}")
            stored = StoredRequest(
                verified=verified, accepted=False, answer=self._answer(request.id, verified.digest, reason)
            )
        if (
            key in remembered
            or key in self._unreadable
            or (reason is not None and reason.code == "too-many-requests")
        ):
            await self._tell(stored)  # what was decided under this id stands
            return
        await self._state.put(key, msgspec.json.encode(stored))
        self._owing.set()

    def _objection(self, key: str, remembered: dict[str, StoredRequest]) -> Reason | None:
        if key in remembered or key in self._unreadable:
            text = f"a request {key.removeprefix(PREFIX)} was decided already, and this is another one under its id"
            return Reason(code="replayed", text=text)
        if len(remembered) >= KEPT_REQUESTS:
            return Reason(
                code="too-many-requests", text=f"{KEPT_REQUESTS} requests are remembered and have not expired"
            )
        if not self._config.may_leave:
            text = "the device's owner lets no sample leave it: samples.may_leave is not set"
            return Reason(code="not-allowed", text=text)
        return None

    async def _accepted(self, verified: VerifiedSampleRequest) -> StoredRequest:
        request = verified.request
        entries = of_releases(
            self._keeper.entries(), request.model, request.first_release, request.last_release
        )
        chosen: list[str] = []
        too_large: list[str] = []
        for entry in entries:
            if len(chosen) == request.maximum:
                break
            sample = None if entry.size > MAX_RECORD_BYTES else await self._keeper.read(entry.id)
            fits = sample is not None and _fits(body_of(sample, request.id))
            (chosen if fits else too_large).append(entry.id)
        text = f"{len(chosen)} of {len(entries)} samples leave"
        if too_large:
            text += f"; {len(too_large)} are larger than a record may be and stay"
        return StoredRequest(
            verified=verified,
            accepted=True,
            chosen=tuple(chosen),
            answer=SampleAnswer(
                time=self._clock(),
                request=request.id,
                digest=verified.digest,
                accepted=True,
                code="accepted",
                text=text,
                chosen=len(chosen),
                too_large=tuple(too_large[:SHOWN_TOO_LARGE]),
            ),
        )

    async def _finish(self, key: str, stored: StoredRequest) -> None:
        if stored.stage == "decided":
            await self._tell(stored)
            stored = msgspec.structs.replace(stored, stage="sending" if stored.chosen else "done")
            await self._state.put(key, msgspec.json.encode(stored))
        if stored.stage == "sending":
            stopped = await self._send(stored)
            if stopped is not None:
                await self._tell(stopped)
            await self._state.put(key, msgspec.json.encode(msgspec.structs.replace(stored, stage="done")))

    async def _send(self, stored: StoredRequest) -> StoredRequest | None:
        """Put what was chosen into the outbox, a few at a time; what to say where it had to be given up."""
        request, sent = stored.verified.request, 0
        for identity in stored.chosen:
            while await self._ledger.waiting() >= WAITING:  # noqa: ASYNC110 - what empties the outbox is a transaction elsewhere
                await asyncio.sleep(POLL_SECONDS)
            why = self._why_stop(request.expires)
            if why is not None:
                answer = msgspec.structs.replace(
                    stored.answer, time=self._clock(), code="stopped", text=why, chosen=sent
                )
                return msgspec.structs.replace(stored, answer=answer)
            async with self._keeper.departing:
                sample = await self._keeper.read(identity)
                if sample is None:  # deleted meanwhile, by its owner or by age
                    continue
                await self._outbox.append(body_of(sample, request.id))
            sent += 1
            self._wake()
        text = f"{sent} samples of {request.model} left by request {request.id}: {request.purpose}"
        await self._recorder.record(self._event("samples-left", text, model=request.model))
        return None

    def _why_stop(self, expires: float) -> str | None:
        if not self._config.may_leave:
            return "the device's owner does not let samples leave any more"
        if self._trusted() >= expires:
            return "the request expired before all samples could be sent"
        return None

    async def _tell(self, stored: StoredRequest) -> None:
        """Write a decision down, here and for the hub."""
        request, answer = stored.verified.request, stored.answer
        await self._outbox.append(answer)  # not by the recorder, which goes on over a full disk
        await self._write_down(
            DecidedRequest(
                time=answer.time,
                request=request.id,
                accepted=answer.accepted,
                code=answer.code,
                text=answer.text,
                model=request.model,
                first_release=request.first_release,
                last_release=request.last_release,
                maximum=request.maximum,
                purpose=request.purpose,
                approver=stored.verified.approver,
                chosen=answer.chosen,
            )
        )
        by = f"request {request.id}, signed by approver {stored.verified.approver[:8]}: {request.purpose}"
        kind = "samples-requested" if answer.accepted else "sample-request-refused"
        await self._recorder.record(
            self._event(
                kind,
                f"{answer.text} ({by})",
                model=request.model,
                severity="info" if answer.accepted else "warning",
            )
        )
        self._wake()

    async def _write_down(self, decided: DecidedRequest) -> None:
        try:
            await self._ledger.note(decided)
        except _FAULTS:
            # A table that is lost must not become a way to make a device decide twice.
            self._count("sample-request-not-written-down")
            log.exception("a decision on samples is not in the table", extra={"request": decided.request})

    async def _remembered(self) -> dict[str, StoredRequest]:
        """Decided requests by key, without those that have long expired and those that this version can't read."""
        found: dict[str, StoredRequest] = {}
        old: dict[str, bytes | None] = {}
        for key, data in (await self._state.get_all(PREFIX)).items():
            try:
                stored = msgspec.json.decode(data, type=StoredRequest)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._note_unreadable(key)
                continue
            over = self._trusted() > stored.verified.request.expires + KEPT_AFTER_EXPIRY_SECONDS
            if over and stored.stage == "done":
                old[key] = None
            else:
                found[key] = stored
        if old:
            await self._state.put_many(old)
        return found

    def _note_unreadable(self, key: str) -> None:
        """It is not fulfilled any more, nor is another request decided under its id."""
        if key not in self._unreadable:
            self._unreadable.add(key)
            self._count("sample-request-unreadable")
            log.warning("a decided request for samples can't be read", extra={"request": key})

    def _answer(self, request: str, digest: str, reason: Reason) -> SampleAnswer:
        return SampleAnswer(
            time=self._clock(),
            request=request,
            digest=digest,
            accepted=False,
            code=reason.code,
            text=reason.text,
        )

    def _event(
        self,
        kind: str,
        text: str,
        *,
        model: str | None = None,
        severity: Literal["info", "warning"] = "info",
    ) -> Event:
        return Event(time=self._clock(), severity=severity, kind=kind, text=text, model=model)


def body_of(sample: KeptSample, request: str) -> Sample:
    """What leaves of a sample."""
    return Sample(
        request=request,
        sample=sample.id,
        model=sample.model,
        release=sample.release,
        artifact=sample.artifact,
        taken=sample.time,
        why=sample.why,
        confidence=sample.confidence,
        inputs=sample.inputs,
        outputs=sample.outputs,
    )


def _fits(body: Sample) -> bool:
    return len(msgspec.json.encode(body)) + RECORD_EXTRA_BYTES <= MAX_RECORD_BYTES
