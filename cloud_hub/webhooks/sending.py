"""Send what waits: one attempt each, outside of any transaction."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import msgspec
from msgspec import Struct

from agent.protocol.words import one_line
from cloud_hub.errors import ConfigError
from cloud_hub.webhooks.service import Attempt, Due
from cloud_hub.webhooks.settings import WebhookSettings
from cloud_hub.webhooks.signing import ID, SHORTEST_SECRET, SIGNATURE, TIME, sign

LARGEST_ANSWER = 65_536
NOTE_CHARACTERS = 300


class Answer(Struct, frozen=True):
    """What a receiver may answer to ``retraining-requested``: it takes the request up."""

    acknowledge: bool = False
    note: str = ""


def read_secret(path: Path) -> bytes:
    """The secret of a file.

    Raises:
        ConfigError: it can't be read, or is too short to sign with.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"webhooks.secret_file: {path}: {error.strerror}") from error
    if len(secret) < SHORTEST_SECRET:
        raise ConfigError(
            f"webhooks.secret_file: {path}: {len(secret)} characters, {SHORTEST_SECRET} are needed"
        )
    return secret


class Sender:
    """Makes attempts; not thread-safe."""

    def __init__(self, settings: WebhookSettings, secret: bytes, *, now: Callable[[], float]) -> None:
        self._settings = settings
        self._secret = secret
        self._now = now
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        self._loop.close()

    def attempt(self, dues: Sequence[Due]) -> list[Attempt]:
        """POST them: those of one address one after the other, addresses side by side, so that none waits for another.

        An address's turn ends with an attempt that failed, or after ``timeout_seconds``; the rest waits for its next turn.
        """
        return self._loop.run_until_complete(self._turns(dues))

    async def _turns(self, dues: Sequence[Due]) -> list[Attempt]:
        queues: dict[str, list[Due]] = {}
        for due in dues:
            queues.setdefault(due.url, []).append(due)
        # A client for each round: no connection that was given up halfway is used again.
        async with httpx.AsyncClient(
            timeout=self._settings.timeout_seconds,
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "edgeward-hub"},
        ) as client:
            turns = await asyncio.gather(*(self._turn(client, queue) for queue in queues.values()))
        return [attempt for turn in turns for attempt in turn]

    async def _turn(self, client: httpx.AsyncClient, queue: Sequence[Due]) -> list[Attempt]:
        until = time.monotonic() + self._settings.timeout_seconds
        made: list[Attempt] = []
        for due in queue:
            made.append(await self._attempt(client, due))
            if made[-1].error is not None or time.monotonic() > until:
                break
        return made

    async def _attempt(self, client: httpx.AsyncClient, due: Due) -> Attempt:
        """Taken is what is answered with a 2xx in time, whatever else is in the answer."""
        timestamp = int(self._now())
        headers = {
            "Content-Type": "application/json",
            ID: due.id,
            TIME: str(timestamp),
            SIGNATURE: sign(self._secret, due.id, timestamp, due.body),
        }
        seconds = self._settings.timeout_seconds
        try:
            # httpx's own limits are for each read: somebody who drips headers never meets them.
            async with (
                asyncio.timeout(seconds),
                client.stream("POST", due.url, content=due.body, headers=headers) as response,
            ):
                answer = await _bounded(response)
        except TimeoutError:
            return Attempt(due=due, status=None, error=f"no whole answer within {seconds:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Attempt(due=due, status=None, error=str(error) or type(error).__name__)
        status = response.status_code
        if not response.is_success:
            more = "; redirects are not followed" if response.has_redirect_location else ""
            return Attempt(due=due, status=status, error=f"it answered {status}{more}")
        acknowledged = _acknowledged(answer) if due.request is not None else None
        return Attempt(due=due, status=status, error=None, acknowledged=acknowledged)


async def _bounded(response: httpx.Response) -> bytes:
    """No more of an answer than one may be."""
    read = bytearray()
    async for chunk in response.aiter_raw():
        if len(read) + len(chunk) > LARGEST_ANSWER:
            break
        read += chunk
    return bytes(read)


def _acknowledged(answer: bytes) -> str | None:
    try:
        found = msgspec.json.decode(answer, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return one_line(found.note)[:NOTE_CHARACTERS] if found.acknowledge else None
