"""ONNX Runtime."""

from collections.abc import Mapping, Sequence

import onnxruntime

from agent.protocol.manifest import TensorSpec
from agent.runner.backends.base import FileTensor, check_datatype, check_names, check_shape
from agent.runner.backends.datatypes import Array
from agent.runner.backends.errors import InferenceError, UnreadableModelError
from agent.runner.backends.onnx_file import check_onnx_file

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}
_ERRORS_ONLY = 3


class OnnxBackend:
    """One ONNX Runtime session on the CPU."""

    def __init__(
        self, content: bytes, *, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], threads: int
    ) -> None:
        check_onnx_file(content)
        try:
            self._session = onnxruntime.InferenceSession(
                content, sess_options=_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common base but Exception
            raise UnreadableModelError(
                f"ONNX Runtime does not load the file: {_first_line(error)}"
            ) from error
        self._output_names = [spec.name for spec in outputs]
        _check("input", inputs, [_tensor(node) for node in self._session.get_inputs()])
        _check("output", outputs, [_tensor(node) for node in self._session.get_outputs()])
        self._run = self._session.run

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See :class:`agent.runner.backends.base.Backend`."""
        try:
            results = self._run(self._output_names, inputs)
        except Exception as error:
            raise InferenceError(f"ONNX Runtime: {_first_line(error)}") from error
        return dict(zip(self._output_names, results, strict=True))

    def describe(self) -> str:
        """Library and version."""
        return library()


def library() -> str:
    """Name and version of the library, for instance ``onnxruntime 1.22.0``."""
    return f"onnxruntime {onnxruntime.__version__}"


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Idle threads that spin take the core that other models and the agent need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # The arena keeps the largest batch ever seen; a device counts that memory for ever.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = _ERRORS_ONLY
    return options


def _tensor(node: onnxruntime.NodeArg) -> FileTensor:
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return FileTensor(node.name, _DATATYPES.get(node.type, node.type), shape)


def _check(kind: str, specs: Sequence[TensorSpec], found: Sequence[FileTensor]) -> None:
    check_names(kind, specs, found)
    by_name = {tensor.name: tensor for tensor in found}
    for spec in specs:
        check_datatype(kind, spec, by_name[spec.name])
        check_shape(kind, spec, by_name[spec.name])


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
