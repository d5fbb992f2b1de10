"""From the start of a runner's process to its first answer, over its Unix socket."""

import socket
import time

from hw_bench.errors import MeasurementError
from hw_bench.serving.edgeward import EdgewardServer
from hw_bench.serving.model import ServedModel
from hw_bench.serving.pairs import spread
from hw_bench.serving.servers import START_SECONDS
from hw_bench.serving.targets import Figure

LIMIT_MS = 300.0


def measure_starts(model: ServedModel, count: int) -> Figure:
    """The time to the first answer, of so many processes one after the other.

    Raises:
        ServerError: a runner did not start.
        MeasurementError: the answer is not 200.
    """
    return Figure(
        name=f"spawn to first answer, {model.runtime}",
        unit="ms",
        value=spread([_start(model) for _ in range(count)]),
        at_most=LIMIT_MS,
    )


def _start(model: ServedModel) -> float:
    server = EdgewardServer(model)
    before = time.perf_counter()
    server.begin()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(START_SECONDS)
            # The socket listens already: the request waits in it until the runner accepts.
            client.connect(str(server.private_path))
            client.sendall(_request(model))
            status = client.recv(4096).split(b"\r\n", 1)[0]
        spent = (time.perf_counter() - before) * 1e3
        if b" 200 " not in status:
            raise MeasurementError(f"{server.name}: the first answer was {status.decode('latin-1')!r}")
        server.accept()
        return spent
    finally:
        server.stop()


def _request(model: ServedModel) -> bytes:
    """Raw bytes of the one input, as the protocol's binary extension allows."""
    head = (
        f"POST /v2/models/{model.name}/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Inference-Header-Content-Length: 0\r\nContent-Length: {len(model.row)}\r\n\r\n"
    )
    return head.encode() + model.row
