"""What a request and an answer are."""

from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

import msgspec

JSON = b"application/json"
BINARY = b"application/octet-stream"

FORWARDED = b"edgeward-forwarded"
"""Header by which the front says that it passes on a request, and so does not know who asks."""


class Request(NamedTuple):
    """One whole HTTP request."""

    method: bytes
    path: bytes
    """Without the query."""
    headers: dict[bytes, bytes]
    """Lower-case names; of those that stand twice, the last."""
    body: bytes
    arrived: float
    """``time.perf_counter()`` when its last byte was read."""
    uid: int | None = None
    """User who connected, over a Unix socket; None over TCP, where nobody knows."""


class Answer(NamedTuple):
    """Status, body, and the headers that depend on them."""

    status: HTTPStatus
    parts: list[bytes]
    content_type: bytes = JSON
    json_length: int | None = None
    """``Inference-Header-Content-Length`` where binary tensors follow the JSON."""
    allow: bytes | None = None
    encoding: bytes | None = None
    """``Content-Encoding`` of the parts, where they are compressed."""
    retry_after: int | None = None
    """Seconds after which it is worth asking again."""
    head_only: bool = False
    """The answer to HEAD: it tells the length of its body and leaves it out."""


class Pending:
    """An answer that comes later: whoever took the request gives it by :meth:`set`, once."""

    __slots__ = ("_answer", "_tell", "abandoned")

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._tell: Callable[[Answer], None] | None = None
        self.abandoned = False
        """The client has gone; nobody reads the answer any more."""

    def set(self, answer: Answer) -> None:
        """Give the answer, on the event loop."""
        if self._tell is None:
            self._answer = answer
        else:
            self._tell(answer)

    def then(self, tell: Callable[[Answer], None]) -> None:
        """Have ``tell`` called with the answer, at once where it is there."""
        if self._answer is None:
            self._tell = tell
        else:
            tell(self._answer)


Handler: TypeAlias = Callable[[Request], Answer | Pending]
"""Answers a request, now or later; never raises for what a client sent."""


def json_answer(content: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """An answer of one JSON document."""
    return Answer(status, [msgspec.json.encode(content)])


def error_answer(text: str, status: HTTPStatus) -> Answer:
    """The Open Inference Protocol's error form, ``{"error": text}``."""
    return json_answer({"error": text}, status)
