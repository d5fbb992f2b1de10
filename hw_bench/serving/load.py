"""The process that sends requests: the unmodified tritonclient, one request after the other, as fast as it goes.

JSON lines in on stdin (:class:`Setup`, then any number of :class:`Burst`), one :class:`Latencies` out on stdout for each.
A client is a process and no thread: tritonclient is Python on gevent, and four of them would wait for one lock.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tritonclient import http as triton
from tritonclient.utils import shared_memory

from agent.protocol.manifest import Datatype
from agent.runner.backends import DTYPES

How = Literal["binary", "json", "shared memory"]
"""How the input travels; the outputs come back in binary, or with JSON in JSON."""


class Route(Struct, frozen=True, kw_only=True):
    """One way to one server."""

    name: str
    address: str
    """``host:port``"""
    how: How
    model: str
    input_name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: bytes
    """Of the input, little-endian, row-major."""
    outputs: tuple[str, ...]


class Setup(Struct, frozen=True, kw_only=True):
    """First line."""

    routes: tuple[Route, ...]


class Burst(Struct, frozen=True, kw_only=True):
    """Every further line: send to one route from ``begin`` until ``begin + seconds``."""

    route: str
    begin: float
    """``time.monotonic()``, the same for all processes; until then the route is warmed up."""
    seconds: float


class Latencies(Struct, frozen=True, kw_only=True):
    """Microseconds of each request that began and ended in the burst; of request and whole answer, array in hand."""

    us: list[float]


class Ready(Struct, frozen=True, kw_only=True):
    """The answer to :class:`Setup`: every route has answered."""

    routes: int


WARM_UP_REQUESTS = 20


def main() -> int:
    """Answer line by line until stdin ends."""
    lines = sys.stdin.buffer
    setup = msgspec.json.decode(lines.readline(), type=Setup)
    with ExitStack() as stack:
        calls = {route.name: _call(route, stack) for route in setup.routes}
        for call in calls.values():
            call()
        _say(Ready(routes=len(calls)))
        for line in lines:
            burst = msgspec.json.decode(line, type=Burst)
            _say(Latencies(us=_send(calls[burst.route], burst)))
    return 0


def _say(message: Ready | Latencies) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def _send(call: Callable[[], None], burst: Burst) -> list[float]:
    for _ in range(WARM_UP_REQUESTS):
        call()
    time.sleep(max(0.0, burst.begin - time.monotonic()))
    spent: list[float] = []
    end = burst.begin + burst.seconds
    before = time.monotonic()
    while True:
        call()
        after = time.monotonic()
        if after > end:
            return spent
        spent.append((after - before) * 1e6)
        before = after


def _call(route: Route, stack: ExitStack) -> Callable[[], None]:
    client = stack.enter_context(triton.InferenceServerClient(route.address))
    array = np.frombuffer(route.data, DTYPES[route.datatype]).reshape(route.shape)
    tensor = triton.InferInput(route.input_name, list(route.shape), route.datatype)
    binary = route.how != "json"
    if route.how == "shared memory":
        _share(client, tensor, array, stack)
    else:
        tensor.set_data_from_numpy(array, binary_data=binary)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in route.outputs]

    def call() -> None:
        result = client.infer(route.model, [tensor], outputs=outputs)
        for name in route.outputs:
            result.as_numpy(name)

    return call


def _share(client: Any, tensor: Any, array: NDArray[np.generic], stack: ExitStack) -> None:
    """Register a region, fill it, and let the input point at it."""
    name = f"edgeward-bench-{os.getpid()}"
    region = shared_memory.create_shared_memory_region(name, f"/{name}", array.nbytes)
    stack.callback(shared_memory.destroy_shared_memory_region, region)
    shared_memory.set_shared_memory_region(region, [array])
    client.register_system_shared_memory(name, f"/{name}", array.nbytes)
    stack.callback(client.unregister_system_shared_memory, name)
    tensor.set_shared_memory(name, array.nbytes)


if __name__ == "__main__":
    sys.exit(main())
