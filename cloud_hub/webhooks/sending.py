"""Send what waits: one attempt each, outside of any transaction."""

import time
from collections.abc import Callable, Iterator
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


class SlowAnswerError(Exception):
    """An answer dripped in for longer than an attempt may take."""


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
        self._client = httpx.Client(
            timeout=settings.timeout_seconds,
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "edgeward-hub"},
        )

    def close(self) -> None:
        self._client.close()

    def attempt(self, due: Due) -> Attempt:
        """One POST; taken is what is answered with a 2xx, whatever else is in the answer."""
        timestamp = int(self._now())
        headers = {
            "Content-Type": "application/json",
            ID: due.id,
            TIME: str(timestamp),
            SIGNATURE: sign(self._secret, due.id, timestamp, due.body),
        }
        try:
            with self._client.stream("POST", due.url, content=due.body, headers=headers) as response:
                answer = b"".join(_bounded(response, self._settings.timeout_seconds))
        except (httpx.HTTPError, httpx.InvalidURL, SlowAnswerError) as error:
            return Attempt(due=due, status=None, error=str(error) or type(error).__name__)
        status = response.status_code
        if not response.is_success:
            more = "; redirects are not followed" if response.has_redirect_location else ""
            return Attempt(due=due, status=status, error=f"it answered {status}{more}")
        acknowledged = _acknowledged(answer) if due.request is not None else None
        return Attempt(due=due, status=status, error=None, acknowledged=acknowledged)


def _bounded(response: httpx.Response, seconds: float) -> Iterator[bytes]:
    """Neither longer than an answer may be nor slower than one attempt may take."""
    size, deadline = 0, time.monotonic() + seconds
    for chunk in response.iter_raw():
        size += len(chunk)
        if size > LARGEST_ANSWER:
            return
        if time.monotonic() > deadline:
            raise SlowAnswerError(f"its answer took longer than {seconds:g} s")
        yield chunk


def _acknowledged(answer: bytes) -> str | None:
    try:
        found = msgspec.json.decode(answer, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return one_line(found.note)[:NOTE_CHARACTERS] if found.acknowledge else None
