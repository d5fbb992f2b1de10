"""Copies of live requests to a candidate, and whether it answers the same.

Runs in the runner that serves, and never makes a client wait: a copy is begun after its request was answered, one at a
time; while the candidate is busy, the next ones are dropped and counted. The copies go to the candidate's private socket
on this device and nowhere else; what is reported are counts.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import httptools
import msgspec
from msgspec import UNSET, Struct, UnsetType

from agent.protocol.latency import LatencySketch
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import Shadow, ShadowReport
from agent.runner.agreement import disagreeing_rows
from agent.runner.backends import Array
from agent.runner.errors import RequestError
from agent.runner.openinference import Contract
from agent.runner.tensors import from_binary, to_binary

ANSWER_SECONDS = 10.0
"""For the candidate to answer one copy: at the lowest priority it gets only what the device has left."""

MAX_COPY_BYTES = 4 * 1024 * 1024
"""Larger requests are not copied: to copy one takes as long as to answer many."""

_TOO_BUSY = frozenset(
    {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
"""The device's fault, not the candidate's."""


class _OutputParameters(Struct):
    binary_data_size: int = 0


class _Output(Struct):
    name: str
    datatype: Any
    shape: tuple[int, ...]
    parameters: _OutputParameters | UnsetType = UNSET


class _Answer(Struct):
    outputs: tuple[_Output, ...]


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(_Answer).decode


class _Copy(NamedTuple):
    """One copy on its way."""

    rows: int
    outputs: Mapping[str, Array]
    """What was answered."""
    sent: float


class ShadowFeed:
    """Feeds one candidate. :meth:`offer` is called for every request that was answered well."""

    def __init__(
        self,
        order: Shadow,
        *,
        model: str,
        contract: Contract,
        ended: Callable[[], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``ended``: called once, when as many copies are answered as were asked for."""
        self.session = order.session
        self._order = order
        self._path = f"/v2/models/{model}/infer".encode()
        self._contract = contract
        self._ended = ended
        self._chance = chance
        self._left = self._gap()
        self._copy: _Copy | None = None
        self._busy = False
        self._closed = False
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._latencies = LatencySketch()
        self._requests = self._rows = self._disagreed = self._failed = self._dropped = 0
        self._reported = (0, 0)
        self._connect()

    def offer(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """A request was inferred; on its way to the client this costs one subtraction where it is not chosen."""
        self._left -= 1
        if self._left > 0:
            return
        self._left = self._gap()
        if self._busy or self._connection is None:
            self._dropped += 1
            self._connect()
            return
        self._busy = True
        # After the answer has been written.
        asyncio.get_running_loop().call_soon(self._send, inputs, outputs)

    def _gap(self) -> int:
        """Requests until the next that is chosen, itself included: geometric, so that each has the same chance."""
        share = self._order.share
        if share >= 1:
            return 1
        return 1 + int(math.log(1.0 - self._chance()) / math.log1p(-share))

    def _send(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        connection = self._connection
        if connection is None or self._closed:
            self._drop()
            return
        payload = self._request(inputs)
        if payload is None:
            self._drop()
            return
        self._copy = _Copy(self._contract.rows(inputs), outputs, time.perf_counter())
        self._timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._late)
        connection.send(payload)

    def _request(self, inputs: Mapping[str, Array]) -> bytes | None:
        """The copy: the tensors as they were understood, in binary, whatever form the request had; None: too large."""
        if sum(array.nbytes for array in inputs.values()) > MAX_COPY_BYTES:
            return None
        tensors = {name: to_binary(array) for name, array in inputs.items()}
        head = _encode(
            {
                "inputs": [
                    {
                        "name": name,
                        "datatype": self._contract.input_by_name[name].datatype,
                        "shape": inputs[name].shape,
                        "parameters": {"binary_data_size": len(data)},
                    }
                    for name, data in tensors.items()
                ],
                "parameters": {"binary_data_output": True, "timeout": int(ANSWER_SECONDS * 1e6)},
            }
        )
        size = len(head) + sum(map(len, tensors.values()))
        lines = (
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
            % (self._path, len(head), size)
        )
        return b"".join([lines, head, *tensors.values()])

    # What the connection tells.

    def answered(self, status: int, json_length: int | None, body: bytes) -> None:
        """The candidate has answered the copy that is on its way."""
        copy = self._copy
        if copy is None:
            return
        if status in _TOO_BUSY:
            self._drop()
            return
        theirs = self._outputs(json_length, body) if status == HTTPStatus.OK else None
        self._requests += 1
        self._rows += copy.rows
        self._latencies.add(time.perf_counter() - copy.sent)
        if theirs is None:
            self._failed += 1
            self._disagreed += copy.rows
        else:
            self._disagreed += disagreeing_rows(
                copy.outputs, theirs, rows=copy.rows, tolerance=self._order.tolerance
            )
        self._free()
        if self._requests >= self._order.requests:
            self.close()
            self._ended()

    def lost(self) -> None:
        """The connection is closed; whatever was on its way has no answer."""
        self._connection = None
        if self._copy is not None:
            self._drop()

    def _outputs(self, json_length: int | None, body: bytes) -> dict[str, Array] | None:
        try:
            start = len(body) if json_length is None else json_length
            outputs: dict[str, Array] = {}
            for output in _decode(body[:start]).outputs:
                size = 0 if output.parameters is UNSET else output.parameters.binary_data_size
                spec = TensorSpec(name=output.name, datatype=output.datatype, shape=output.shape)
                outputs[output.name] = from_binary(spec, output.shape, body, start, size)
                start += size
        except (msgspec.DecodeError, RequestError, ValueError, KeyError):
            return None
        return outputs

    def _late(self) -> None:
        self._timer = None
        if self._connection is not None:
            self._connection.abort()  # an answer that still came would be taken for the next copy's
            self._connection = None
        self._drop()

    def _drop(self) -> None:
        self._dropped += 1
        self._free()

    def _free(self) -> None:
        self._copy = None
        self._busy = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Connecting.

    def _connect(self) -> None:
        if self._closed or self._connection is not None or self._connecting is not None:
            return
        self._connecting = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_unix_connection(
                lambda: _Connection(self), self._order.path
            )
            self._connection = connection
        except OSError:
            pass  # the next request that is chosen tries again
        finally:
            self._connecting = None

    def close(self) -> None:
        """Send nothing more; what is on its way is not counted."""
        self._closed = True
        self._free()
        if self._connecting is not None:
            self._connecting.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    # Reporting.

    def changed(self) -> bool:
        """Whether anything happened since the last :meth:`report`."""
        return self._reported != (self._requests, self._dropped)

    def report(self, *, final: bool = False) -> ShadowReport:
        """What was seen since the beginning."""
        self._reported = (self._requests, self._dropped)
        return ShadowReport(
            session=self.session,
            requests=self._requests,
            rows=self._rows,
            disagreed=self._disagreed,
            failed=self._failed,
            dropped=self._dropped,
            latencies=self._latencies.bins(),
            final=final,
        )


class _Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self, feed: ShadowFeed) -> None:
        self._feed = feed
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._json_length: int | None = None
        self._body: list[bytes] = []

    def send(self, request: bytes) -> None:
        if self._transport is not None:
            self._transport.write(request)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        if self._feed._connection is self:  # noqa: SLF001 - the two are one thing in two parts
            self._feed.lost()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"inference-header-content-length" and value.isdigit():
            self._json_length = int(value)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status, length, body = self._parser.get_status_code(), self._json_length, b"".join(self._body)
        self._json_length, self._body = None, []
        if not self._parser.should_keep_alive():
            self.abort()
        self._feed.answered(status, length, body)
