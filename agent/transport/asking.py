"""Questions to the hub over the link: asked again when no answer comes, answered by whichever answer fits."""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from agent.protocol.codec import encode_msgpack
from agent.protocol.limits import BLOCK_BYTES
from agent.protocol.topics import Channel
from agent.protocol.transfer import Block, Location, TransferProblem, TransferRequest, TransferResponse
from agent.transport.backoff import Backoff
from agent.transport.errors import (
    BusyError,
    LinkDownError,
    NoAnswerError,
    NoLocationError,
    NotFoundError,
    PublishRefusedError,
    TransferError,
)
from agent.transport.inbox import T

Counted = Callable[[str, int, int], None]
"""``(purpose, bytes received, bytes sent)``."""
MESSAGE_HEAD_BYTES = 110
"""Of a question or an answer, about: MQTT's head and topic, the names of msgpack's fields; without TLS and TCP."""
LATE = 3.0
"""So many times the usual, an answer is missed."""
STALE = "stale"
"""Purpose of answers that nobody waits for any more."""

MakeRequest = Callable[[int], TransferRequest]
"""Request id → the request."""


class RequestLink(Protocol):
    """What a transfer needs of the link (:class:`agent.transport.mqtt.MqttLink` is one)."""

    connected: asyncio.Event

    @property
    def errors(self) -> Counter[str]: ...
    def on(self, kind: type[T], handler: Callable[[T], None]) -> None: ...
    async def publish(self, channel: Channel, payload: bytes) -> None: ...


class TransferSettings(Struct, frozen=True, kw_only=True):
    """How patient a transfer is; times in seconds."""

    block_bytes: int = BLOCK_BYTES
    """The longest block; on a slow link shorter ones are asked for."""
    window: int = 4
    """Requests in flight; with ``block_bytes`` it bounds what one transfer holds in memory and what a cut costs."""
    tries: int = 8
    """Requests for one block before the transfer gives up; waiting for the link is not a try."""
    answer: Backoff = Backoff(minimum=4.0, maximum=30.0)
    """How long to wait for an answer, growing from try to try; also the pause after ``busy``."""
    offline_seconds: float = 10.0
    """How long one question waits for the link to come back; then another source may have its turn."""
    metadata_seconds: float = 30.0
    """Deadline of a whole metadata file, the wait for the link included: a trickle of blocks does not move it."""


class Asker:
    """Asks through a link.

    Args:
        link: takes over its ``Block``, ``Location`` and ``TransferProblem`` messages.
        settings: patience.
        randomness: for the jitter.
        counted: told what questions and answers cost.
    """

    def __init__(
        self,
        link: RequestLink,
        settings: TransferSettings,
        randomness: random.Random,
        counted: Counted = lambda _purpose, _bytes_in, _bytes_out: None,
    ) -> None:
        self._link = link
        self._settings = settings
        self._randomness = randomness
        self._next_id = secrets.randbits(48)
        self._counted = counted
        self._usual_seconds = 0.0
        """From a question to its answer, smoothed."""
        self._heard = 0.0
        """When the newest answer came that somebody waited for, by the loop's clock."""
        self._waiting: dict[int, tuple[asyncio.Future[TransferResponse], str, float]] = {}
        link.on(Block, self._take)
        link.on(Location, self._take)
        link.on(TransferProblem, self._take)

    @property
    def waiting(self) -> int:
        """Requests whose answer is still of use."""
        return len(self._waiting)

    async def ask(
        self,
        make: MakeRequest,
        what: str,
        fits: Callable[[TransferResponse], str | None],
        *,
        purpose: str,
    ) -> TransferResponse:
        """Ask until an answer comes that fits; an answer to an earlier asking is as good as one to the newest.

        Args:
            make: the request for an id.
            what: for the errors.
            fits: what is wrong with an answer that is no problem report; None: it is the one.
            purpose: what the bytes are counted for.

        Raises:
            NoAnswerError: no link, or no answer.
            NotFoundError, NoLocationError, BusyError, TransferError: what the hub says, or that it answers and never fits:
                a fault of the hub, which a caller counts.
        """
        answer: asyncio.Future[TransferResponse] = asyncio.get_running_loop().create_future()
        identities: list[int] = []
        problem = "no answer"
        fault: type[TransferError] = NoAnswerError
        try:
            for attempt in range(self._settings.tries):
                await self._send(make, what, answer, identities, purpose)
                patience = self._patience(attempt)
                if not await self._wait(answer, patience):
                    self._link.errors["request-timeout"] += 1
                    fault = NoAnswerError
                    continue
                response = answer.result()
                if isinstance(response, TransferProblem):
                    problem, fault = await self._judge(response, what, patience), BusyError
                else:
                    wrong = fits(response)
                    if wrong is None:
                        return response
                    self._link.errors["wrong-block"] += 1
                    problem, fault = wrong, TransferError
                self._forget(identities)
                answer = asyncio.get_running_loop().create_future()
        finally:
            self._forget(identities)
            answer.cancel()
        raise fault(f"{what}: asked {self._settings.tries} times: {problem}")

    def _patience(self, attempt: int) -> float:
        """As the settings say; longer, up to their longest, where the link is slow."""
        bounds = self._settings.answer
        slow = min(LATE * self._usual_seconds, bounds.maximum)
        return max(bounds.delay(attempt, self._randomness), slow)

    async def _wait(self, answer: asyncio.Future[TransferResponse], patience: float) -> bool:
        """Whether the answer came.

        While answers to others come, a slow link is busy, not broken: asking again then would
        only make it slower.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not answer.done():
            rest = max(began, self._heard) + patience - loop.time()
            if rest <= 0:
                return False
            await asyncio.wait({answer}, timeout=rest)
        return True

    async def _send(
        self,
        make: MakeRequest,
        what: str,
        answer: asyncio.Future[TransferResponse],
        identities: list[int],
        purpose: str,
    ) -> None:
        """Publish one request; while the link is down, wait for it (asking then costs no try)."""
        while True:
            try:
                async with asyncio.timeout(self._settings.offline_seconds):
                    await self._link.connected.wait()
            except TimeoutError as error:
                raise NoAnswerError(f"{what}: no link for {self._settings.offline_seconds:g} s") from error
            identity = self._next_id
            self._next_id += 1
            self._waiting[identity] = (answer, purpose, asyncio.get_running_loop().time())
            request = encode_msgpack(make(identity))
            identities.append(identity)
            try:
                await self._link.publish(Channel.REQUEST, request)
            except LinkDownError:
                await asyncio.sleep(0)  # let the link notice that it is down
                continue
            except PublishRefusedError as error:
                raise TransferError(f"{what}: can't be asked for: {error}") from error
            self._counted(purpose, 0, len(request) + MESSAGE_HEAD_BYTES)
            return

    async def _judge(self, problem: TransferProblem, what: str, patience: float) -> str:
        """Raise where asking again can't help; else wait where that helps, and say what was wrong."""
        match problem.code:
            case "not-found":
                raise NotFoundError(f"{what}: {problem.text}")
            case "no-location":
                raise NoLocationError(f"{what}: {problem.text}")
            case "busy":
                await asyncio.sleep(patience)
                return f"the hub is busy: {problem.text}"
            case _:
                raise TransferError(f"{what}: {problem.code}: {problem.text}")

    def _forget(self, identities: list[int]) -> None:
        for identity in identities:
            self._waiting.pop(identity, None)
        identities.clear()

    def _take(self, response: TransferResponse) -> None:
        answer, purpose, asked = self._waiting.pop(response.id, (None, STALE, 0.0))
        data = len(response.data) if isinstance(response, Block) else 0
        self._counted(purpose, data + MESSAGE_HEAD_BYTES, 0)
        if answer is None or answer.done():
            self._link.errors["stale-response"] += 1
            return
        self._heard = asyncio.get_running_loop().time()
        took = self._heard - asked
        self._usual_seconds += (took - self._usual_seconds) / 8
        answer.set_result(response)
