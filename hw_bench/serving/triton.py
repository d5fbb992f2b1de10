"""Real Triton: ``tritonserver`` out of the wheel nvidia-pytriton, started directly, its Python backend on ONNX Runtime."""

import os
import shutil
import subprocess
from pathlib import Path

from agent.protocol.manifest import TensorSpec
from hw_bench.errors import AbsentError, ServerError
from hw_bench.serving.model import ServedModel
from hw_bench.serving.peers import TRITON as PEER
from hw_bench.serving.peers import environment, site_packages
from hw_bench.serving.servers import PortServer, ServerProcess, free_ports
from hw_bench.serving.targets import TRITON

_STUB = "triton_python_backend_stub"
_TYPES = {"BOOL": "TYPE_BOOL", "BYTES": "TYPE_STRING"}

MODEL_PY = """\
import os

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = os.path.join(os.path.dirname(__file__), "model.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._run = session.run
        self._input = session.get_inputs()[0].name
        self._outputs = [node.name for node in session.get_outputs()]

    def execute(self, requests):
        responses = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, self._input).as_numpy()
            results = self._run(self._outputs, {self._input: given})
            tensors = [pb_utils.Tensor(name, value) for name, value in zip(self._outputs, results)]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""


class TritonServer(PortServer):
    """One model, one instance."""

    name = TRITON

    def __init__(self, model: ServedModel, peers: Path) -> None:
        super().__init__()
        self._model = model
        self._peers = peers

    @property
    def setup(self) -> str:
        """In words."""
        return (
            f"tritonserver of {PEER.alone[0]}, Python backend (1 CPU instance) calling {PEER.packages[1]} with 1 thread, "
            "no batching, gRPC off, metrics on, else defaults"
        )

    def start(self) -> None:
        """See :class:`hw_bench.serving.servers.Server`."""
        home = environment(self._peers, PEER)
        packages = site_packages(home)
        folder = self._make_folder()
        self._port, metrics = free_ports(2)
        libraries = _libraries(home, packages)
        try:
            self._process = ServerProcess(
                self.name,
                [
                    packages / "pytriton/tritonserver/bin/tritonserver",
                    *("--model-repository", _repository(folder, self._model)),
                    *("--backend-directory", _backends(folder, packages, libraries)),
                    *("--http-address", "127.0.0.1", "--http-port", str(self._port)),
                    *(
                        "--allow-grpc",
                        "false",
                        "--metrics-address",
                        "127.0.0.1",
                        "--metrics-port",
                        str(metrics),
                    ),
                ],
                environment={
                    "PATH": f"{home / 'bin'}:{os.environ.get('PATH', '')}",
                    "LD_LIBRARY_PATH": libraries,
                    "PYTHONPATH": str(packages),
                },
            )
            self._process.wait_ready(self.address, f"/v2/models/{self._model.name}/ready")
        except (AbsentError, ServerError):
            self.stop()
            raise


def _libraries(home: Path, packages: Path) -> str:
    """The wheel's libraries, and libpython of the environment where the system has none."""
    asked = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    answer = subprocess.run([home / "bin/python", "-c", asked], capture_output=True, text=True, check=True)
    return f"{packages / 'nvidia_pytriton.libs'}:{answer.stdout.strip()}"


def _backends(folder: Path, packages: Path, libraries: str) -> Path:
    """A backend folder as the server wants it: the Python backend with the stub for this Python beside it."""
    version = packages.parent.name.removeprefix("python")
    stub = packages / "pytriton/tritonserver/python_backend_stubs" / version / _STUB
    if not stub.is_file():
        raise AbsentError(f"triton: {PEER.alone[0]} has no {_STUB} for Python {version}")
    linked = subprocess.run(
        ["ldd", stub],
        capture_output=True,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": libraries},
        check=False,
    ).stdout
    if missing := [line.split()[0] for line in linked.splitlines() if "not found" in line]:
        raise AbsentError(f"triton: {_STUB} for Python {version} needs {', '.join(missing)}")
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for source in (packages / "pytriton/tritonserver/backends/python").iterdir():
        (backend / source.name).symlink_to(source)
    shutil.copy2(stub, backend / _STUB)
    (backend / _STUB).chmod(0o755)
    return backend.parent


def _repository(folder: Path, model: ServedModel) -> Path:
    version = folder / "models" / model.name / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(model.path.read_bytes())
    (version / "model.py").write_text(MODEL_PY, encoding="utf-8")
    inputs = _tensor(model.input)
    outputs = ", ".join(_tensor(spec) for spec in model.outputs)
    (version.parent / "config.pbtxt").write_text(
        f'name: "{model.name}"\nbackend: "python"\nmax_batch_size: 0\ninput [{inputs}]\noutput [{outputs}]\n'
        "instance_group [{ count: 1 kind: KIND_CPU }]\n",
        encoding="utf-8",
    )
    return version.parent.parent


def _tensor(spec: TensorSpec) -> str:
    kind = _TYPES.get(spec.datatype, f"TYPE_{spec.datatype}")
    return f'{{ name: "{spec.name}" data_type: {kind} dims: [{", ".join(map(str, spec.shape))}] }}'
