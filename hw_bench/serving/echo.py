"""The bare echo server as a server that is measured."""

import math
import sys

import msgspec

from hw_bench.errors import ServerError
from hw_bench.serving.model import ITEM_BYTES, ServedModel
from hw_bench.serving.servers import PortServer, ServerProcess, free_ports
from hw_bench.serving.targets import ECHO


class EchoServer(PortServer):
    """Answers every request with zeros of the model's shape, as a valid answer of the protocol."""

    name = ECHO
    setup = "httptools on uvloop, a constant answer: no JSON, no checks, no model"

    def __init__(self, model: ServedModel) -> None:
        super().__init__()
        self._model = model

    def start(self) -> None:
        """See :class:`hw_bench.serving.servers.Server`."""
        (self._port,) = free_ports(1)
        json_part, tensors = constant_answer(self._model)
        self._process = ServerProcess(
            self.name,
            [
                sys.executable,
                *("-m", "hw_bench.serving.echo_server"),
                *("--port", str(self._port)),
                *("--json-length", str(len(json_part))),
                *("--body", (json_part + tensors).hex()),
            ],
        )
        try:
            self._process.wait_ready(self.address, "/v2/health/ready")
        except ServerError:
            self.stop()
            raise


def constant_answer(model: ServedModel) -> tuple[bytes, bytes]:
    """JSON part and tensors of an answer to one row: zeros."""
    described: list[dict[str, object]] = []
    tensors = b""
    for spec in model.outputs:
        shape = [1 if size == -1 else size for size in spec.shape]
        size = ITEM_BYTES[spec.datatype] * math.prod(shape)
        tensors += bytes(size)
        described.append(
            {
                "name": spec.name,
                "datatype": spec.datatype,
                "shape": shape,
                "parameters": {"binary_data_size": size},
            }
        )
    answer = {"model_name": model.name, "model_version": "1", "outputs": described}
    return msgspec.json.encode(answer), tensors
