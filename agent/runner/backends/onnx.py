"""ONNX Runtime."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime
from onnxruntime import RunOptions

from agent.protocol.manifest import TensorSpec
from agent.runner.backends.base import FileTensor, check_datatype, check_names, check_shape
from agent.runner.backends.datatypes import BYTES, BYTES_DTYPE, Array
from agent.runner.backends.errors import (
    CancelledRunError,
    InferenceError,
    InvalidInputError,
    UnreadableModelError,
)
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
    "tensor(string)": BYTES,
}
_ERRORS_ONLY = 3


class OnnxBackend:
    """One ONNX Runtime session on the CPU.

    Each run gets ``RunOptions`` of its own: they carry the request to end, so one that comes late meets a run that is
    over and not the next one. It costs nothing: without them ONNX Runtime makes its own, and more slowly.
    """

    def __init__(
        self, content: bytes, *, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], threads: int
    ) -> None:
        check_onnx_file(content)
        try:
            self._session = onnxruntime.InferenceSession(
                content, sess_options=session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common base but Exception
            raise UnreadableModelError(
                f"ONNX Runtime does not load the file: {_first_line(error)}"
            ) from error
        _forget_bytes(self._session)
        self._output_names = [spec.name for spec in outputs]
        _check("input", inputs, [_tensor(node) for node in self._session.get_inputs()])
        _check("output", outputs, [_tensor(node) for node in self._session.get_outputs()])
        self._texts_in = _texts(inputs)
        self._texts_out = _texts(outputs)
        # Past its Python wrapper, which looks again for what was checked already: a fifth of what a tiny model takes.
        self._run = getattr(self._session, "_sess", self._session).run
        self._under_way = RunOptions()

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See :class:`agent.runner.backends.base.Backend`."""
        if self._texts_in:
            inputs = {**inputs, **{name: _decoded(name, inputs[name]) for name in self._texts_in}}
        options = self._under_way = RunOptions()
        try:
            results = self._run(self._output_names, inputs, options)
        except Exception as error:
            if options.terminate:
                raise CancelledRunError("ONNX Runtime: the run was cancelled") from error
            raise InferenceError(f"ONNX Runtime: {_first_line(error)}") from error
        outputs: dict[str, Array] = dict(zip(self._output_names, results, strict=True))
        for name in self._texts_out:
            outputs[name] = _encoded(outputs[name])
        return outputs

    def cancel(self) -> None:
        """See :class:`agent.runner.backends.base.Backend`."""
        self._under_way.terminate = True

    def describe(self) -> str:
        """Library and version."""
        return library()


def library() -> str:
    """Name and version of the library, for instance ``onnxruntime 1.22.0``."""
    return f"onnxruntime {onnxruntime.__version__}"


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Settings for a device; measured one by one in docs/decisions/0010-sessions-for-the-edge.md."""
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
    # What was looked through is ONNX; left to itself the library would also take its own format, which was not.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = _ERRORS_ONLY
    return options


def _forget_bytes(session: onnxruntime.InferenceSession) -> None:
    """Give back the file's bytes, kept only for opening it again with other providers."""
    session.disable_fallback()
    session._model_bytes = None  # noqa: SLF001 - it has no public way; test_onnx_private sees whether it is still so


def _tensor(node: onnxruntime.NodeArg) -> FileTensor:
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return FileTensor(node.name, _DATATYPES.get(node.type, node.type), shape)


def _check(kind: str, specs: Sequence[TensorSpec], found: Sequence[FileTensor]) -> None:
    check_names(kind, specs, found)
    by_name = {tensor.name: tensor for tensor in found}
    for spec in specs:
        check_datatype(kind, spec, by_name[spec.name])
        check_shape(kind, spec, by_name[spec.name])


def _texts(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    return tuple(spec.name for spec in specs if spec.datatype == BYTES)


def _decoded(name: str, values: Array) -> Array:
    """ONNX Runtime's strings are text; what is no UTF-8 would reach it as the text of a Python literal."""
    texts: Array = np.empty(values.size, BYTES_DTYPE)
    for index, value in enumerate(values.flat):
        try:
            texts[index] = value.decode()
        except (UnicodeDecodeError, AttributeError) as error:
            raise InvalidInputError(
                f"input {name!r}: element {index} is not UTF-8; ONNX Runtime takes text only"
            ) from error
    return texts.reshape(values.shape)


def _encoded(texts: Array) -> Array:
    values: Array = np.empty(texts.size, BYTES_DTYPE)
    values[:] = [text.encode() for text in texts.flat]
    return values.reshape(texts.shape)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
