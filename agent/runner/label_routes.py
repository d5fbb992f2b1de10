"""``POST /v2/models/<model>/labels``: labels from clients, passed on to the supervisor, which keeps what they are joined with."""

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from agent.protocol.labels import MAX_LABELS, MAX_LABELS_BYTES, LabelsAnswer, ModelLabels
from agent.protocol.runner import LabelAccess, LabelsGiven, LabelsJoined
from agent.runner.compression import inflate
from agent.runner.errors import QueueFullError, RequestError
from agent.runner.routes import Names, Route
from agent.web.messages import Pending, Request, error_answer, json_answer

MAX_WAITING = 64
"""Messages that wait for their answer; more are told to come again."""

ANSWER_SECONDS = 10.0

_decode = msgspec.json.Decoder(ModelLabels).decode


class _Waiting(NamedTuple):
    pending: Pending
    since: float


class LabelRoutes:
    """Takes labels where the device's owner allows it."""

    def __init__(
        self,
        access: LabelAccess,
        send: Callable[[LabelsGiven], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access
        self._send = send
        self._clock = clock
        self._calls = 0
        self._waiting: dict[int, _Waiting] = {}

    def routes(self) -> tuple[Route, ...]:
        """With and without the version: a label belongs to whatever release answered its request."""
        return tuple(
            Route(b"POST", f"{base}/labels", self._give)
            for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        )

    def joined(self, message: LabelsJoined) -> None:
        """The supervisor's answer; one that comes too late is dropped: the same labels may be sent again."""
        waiting = self._waiting.pop(message.call, None)
        if waiting is None:
            return
        if message.problem is not None:
            waiting.pending.set(error_answer(message.problem, HTTPStatus.SERVICE_UNAVAILABLE))
        else:
            waiting.pending.set(json_answer(LabelsAnswer(answers=message.answers)))

    def tick(self) -> None:
        """Answer those that have waited too long."""
        late = [call for call, each in self._waiting.items() if self._clock() - each.since >= ANSWER_SECONDS]
        for call in late:
            text = f"the agent has not answered within {ANSWER_SECONDS:g} s; sending the same labels again changes nothing"
            self._waiting.pop(call).pending.set(error_answer(text, HTTPStatus.GATEWAY_TIMEOUT))

    def _give(self, request: Request, _: Names) -> Pending:
        self._check_access(request)
        body = request.body
        given = request.headers.get(b"content-encoding")
        if given is not None:
            body = inflate(body, given, MAX_LABELS_BYTES)
        if len(body) > MAX_LABELS_BYTES:
            raise RequestError(
                f"labels: {len(body)} bytes, at most {MAX_LABELS_BYTES} and {MAX_LABELS} labels a message are allowed",
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        try:
            labels = _decode(body).labels
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"labels: {error}") from error
        if len(self._waiting) >= MAX_WAITING:
            raise QueueFullError("labels: too many messages wait to be joined", retry_after=1.0)
        self._calls += 1
        pending = Pending()
        self._waiting[self._calls] = _Waiting(pending, self._clock())
        self._send(LabelsGiven(call=self._calls, labels=labels))
        return pending

    def _check_access(self, request: Request) -> None:
        if self._access == "unix+tcp" or (self._access == "unix" and request.uid is not None):
            return
        where = "nowhere on this device" if self._access == "off" else "only on the models' Unix sockets"
        raise RequestError(
            f"labels are taken over HTTP {where} (setting labels.http = {self._access!r}); `edgeward label` takes them too",
            HTTPStatus.FORBIDDEN,
        )
