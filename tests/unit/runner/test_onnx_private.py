"""ONNX Runtime's names without a promise that the backend uses: a release that renames them shows here."""

import onnxruntime

from agent.runner.backends.onnx import OnnxBackend
from tests.contract.runner import tiny_models as tiny


def test_a_session_keeps_its_file_s_bytes_and_the_backend_gives_them_back() -> None:
    content = tiny.onnx_linear()
    assert onnxruntime.InferenceSession(content)._model_bytes == content
    backend = OnnxBackend(content, inputs=tiny.INPUTS, outputs=tiny.OUTPUTS, threads=1)
    assert backend._session._model_bytes is None


def test_what_the_wrapper_calls_is_called() -> None:
    backend = OnnxBackend(tiny.onnx_linear(), inputs=tiny.INPUTS, outputs=tiny.OUTPUTS, threads=1)
    assert backend._run == backend._session._sess.run
