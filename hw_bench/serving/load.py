"""The process that sends requests: the unmodified tritonclient, one request after the other, as fast as it goes.

It is told what to do on stdin, and answers on stdout (:mod:`hw_bench.serving.messages`).
A client is a process and no thread: tritonclient is Python on gevent, and four of them would wait for one lock.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException, shared_memory

from agent.runner.backends import DTYPES
from hw_bench.serving.messages import WARM_UP_REQUESTS, Burst, Latencies, Ready, Route, Setup


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
            _say(_send(calls[burst.route], burst))
    return 0


def _say(message: Ready | Latencies) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def _send(call: Callable[[], None], burst: Burst) -> Latencies:
    spent: list[float] = []
    failures: list[str] = []
    try:
        for _ in range(WARM_UP_REQUESTS):
            call()
    except InferenceServerException as error:
        failures.append(str(error))
    time.sleep(max(0.0, burst.begin - time.monotonic()))
    end = burst.begin + burst.seconds
    before = time.monotonic()
    while True:
        try:
            call()
        except InferenceServerException as error:
            failures.append(str(error))
        after = time.monotonic()
        if after > end:
            return Latencies(us=spent, failed=len(failures), failure=failures[0] if failures else "")
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
