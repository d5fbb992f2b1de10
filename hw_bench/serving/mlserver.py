"""MLServer, its smallest set-up: one process, a runtime of a few lines on ONNX Runtime.

Its HTTP knows no binary tensors (it answers 422), so its requests and answers are JSON, by the same client.
"""

import os
from pathlib import Path

import msgspec

from hw_bench.errors import ServerError
from hw_bench.serving.messages import How
from hw_bench.serving.model import ServedModel
from hw_bench.serving.peers import MLSERVER as PEER
from hw_bench.serving.peers import environment
from hw_bench.serving.servers import PortServer, ServerProcess, free_ports
from hw_bench.serving.targets import MLSERVER

RUNTIME_PY = """\
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class OnnxRuntime(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = await get_model_uri(self._settings)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._run = session.run
        self._input = session.get_inputs()[0].name
        self._outputs = [node.name for node in session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = NumpyCodec.decode_input(payload.inputs[0])
        results = self._run(self._outputs, {self._input: given})
        outputs = [NumpyCodec.encode_output(name, value) for name, value in zip(self._outputs, results)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
"""


class MlServer(PortServer):
    """One model, no worker processes."""

    name = MLSERVER
    how: How = "json"

    def __init__(self, model: ServedModel, peers: Path) -> None:
        super().__init__()
        self._model = model
        self._peers = peers

    @property
    def setup(self) -> str:
        """In words."""
        return (
            f"{PEER.packages[0]}, parallel_workers 0 (inference in the server's process), a custom runtime calling "
            f"{PEER.packages[1]} with 1 thread, JSON (its HTTP has no binary tensors), else defaults"
        )

    def start(self) -> None:
        """See :class:`hw_bench.serving.servers.Server`."""
        home = environment(self._peers, PEER)
        folder = self._make_folder()
        self._port, grpc, metrics = free_ports(3)
        _write(folder, self._model, http=self._port, grpc=grpc, metrics=metrics)
        self._process = ServerProcess(
            self.name,
            [home / "bin/mlserver", "start", folder],
            environment={
                "PATH": f"{home / 'bin'}:{os.environ.get('PATH', '')}",
                "PYTHONPATH": str(folder),
            },
            cwd=folder,
        )
        try:
            self._process.wait_ready(self.address, f"/v2/models/{self._model.name}/ready")
        except ServerError:
            self.stop()
            raise


def _write(folder: Path, model: ServedModel, *, http: int, grpc: int, metrics: int) -> None:
    server = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
        "debug": False,
    }
    served = {
        "name": model.name,
        "implementation": "edgeward_bench_runtime.OnnxRuntime",
        "parameters": {"uri": "./model.onnx", "version": "1"},
    }
    (folder / "settings.json").write_bytes(msgspec.json.encode(server))
    (folder / "model-settings.json").write_bytes(msgspec.json.encode(served))
    (folder / "edgeward_bench_runtime.py").write_text(RUNTIME_PY, encoding="utf-8")
    (folder / "model.onnx").write_bytes(model.path.read_bytes())
