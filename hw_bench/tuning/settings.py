"""What is tried: the default is what the backends use, and each other setting changes one thing of it."""

from collections.abc import Callable
from typing import Any

import onnxruntime
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from agent.runner.backends.onnx import session_options

Change = Callable[[onnxruntime.SessionOptions], None]

_LEVELS = onnxruntime.GraphOptimizationLevel


def _threads(count: int, *, spin: bool) -> Change:
    def change(options: onnxruntime.SessionOptions) -> None:
        options.intra_op_num_threads = count
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")

    return change


def _set(name: str, value: object) -> Change:
    return lambda options: setattr(options, name, value)


def _unchanged(_: onnxruntime.SessionOptions) -> None:
    pass


def _arena_and_pattern(options: onnxruntime.SessionOptions) -> None:
    options.enable_cpu_mem_arena = options.enable_mem_pattern = True


def _entry(name: str, value: str) -> Change:
    return lambda options: options.add_session_config_entry(name, value)


ONNX: dict[str, Change] = {
    "default": _unchanged,
    "2 threads": _threads(2, spin=False),
    "2 threads, spinning": _threads(2, spin=True),
    "arena": _set("enable_cpu_mem_arena", value=True),
    "arena and memory pattern": _arena_and_pattern,
    "graph optimised: extended": _set("graph_optimization_level", _LEVELS.ORT_ENABLE_EXTENDED),
    "graph optimised: basic": _set("graph_optimization_level", _LEVELS.ORT_ENABLE_BASIC),
    "graph as it is": _set("graph_optimization_level", _LEVELS.ORT_DISABLE_ALL),
    "weights not packed": _entry("session.disable_prepacking", "1"),
}
TFLITE: dict[str, dict[str, Any]] = {
    "default": {},
    "2 threads": {"num_threads": 2},
    "without XNNPACK": {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES},
    "without XNNPACK, 2 threads": {
        "num_threads": 2,
        "experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    },
}
SETTINGS: dict[str, tuple[str, ...]] = {"onnx": tuple(ONNX), "tflite": tuple(TFLITE)}


def open_onnx(content: bytes, setting: str) -> onnxruntime.InferenceSession:
    """A session with one setting changed."""
    options = session_options(threads=1)
    ONNX[setting](options)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def open_tflite(content: bytes, setting: str) -> Any:
    """An interpreter with one setting changed."""
    return Interpreter(model_content=content, **{"num_threads": 1, **TFLITE[setting]})
