"""Files that no backend loads."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from agent.runner.backends import (
    HostileModelError,
    ModelRefusedError,
    RuntimeMissingError,
    UnreadableModelError,
    open_backend,
)
from tests.contract.runner.backends.subject import Subject, expected, rows, spec

X, Y = [spec("x", "FP32", -1, 4)], [spec("y", "FP32", -1, 3)]
SAME = [spec("y", "FP32", -1, 4)]
SECRET = np.array([[3.0, 1.0, 4.0, 1.5]], np.float32)


def test_an_unknown_runtime_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeMissingError, match="runtime 'torch' is unknown; allowed: onnx, tflite"):
        open_backend("torch", tmp_path / "model", inputs=X, outputs=Y)


def test_garbage_and_truncated_files_are_refused(subject: Subject) -> None:
    path = subject.path("linear")
    whole = path.read_bytes()
    for broken in (b"", b"garbage" * 50, whole[: len(whole) // 2], whole[:9]):
        path.write_bytes(broken)
        with pytest.raises(ModelRefusedError):
            open_backend(subject.support.runtime, path, inputs=X, outputs=Y)


def test_the_digest_is_that_of_the_bytes_that_are_loaded(subject: Subject) -> None:
    path = subject.path("linear")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    open_backend(subject.support.runtime, path, inputs=X, outputs=Y, sha256=digest)
    with pytest.raises(UnreadableModelError, match=f"SHA-256 is {digest}"):
        open_backend(subject.support.runtime, path, inputs=X, outputs=Y, sha256="0" * 64)


def test_links_pipes_folders_and_absent_files_are_refused(subject: Subject) -> None:
    link, pipe = subject.folder / "link", subject.folder / "pipe"
    link.symlink_to(subject.path("linear"))
    os.mkfifo(pipe)
    for path in (link, pipe, subject.folder, subject.folder / "absent", Path("/dev/zero")):
        with pytest.raises(UnreadableModelError):
            open_backend(subject.support.runtime, path, inputs=X, outputs=Y)


def test_a_hard_link_is_a_name_like_any_other_and_its_digest_decides(subject: Subject) -> None:
    path, other = subject.path("linear"), subject.folder / "other"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    os.link(path, other)
    backend = open_backend(subject.support.runtime, other, inputs=X, outputs=Y, sha256=digest)
    # Whoever holds the other name may write to the file: not into a model that is loaded, nor unnoticed before.
    path.write_bytes(subject.path("linear-int8").read_bytes())
    x = rows(3)
    np.testing.assert_allclose(backend.infer({"x": x})["y"], expected(x), atol=1e-6)
    with pytest.raises(UnreadableModelError, match="was expected"):
        open_backend(subject.support.runtime, other, inputs=X, outputs=Y, sha256=digest)


def test_the_tables_of_a_tflite_file_may_not_name_other_files(tflite: Subject) -> None:
    with pytest.raises(HostileModelError, match="external buffers"):
        tflite.open("external", X, SAME)


@pytest.mark.parametrize("what", ["custom", "beyond"])
def test_tflite_files_with_an_unknown_operator_or_data_behind_their_end_are_refused(
    tflite: Subject, what: str
) -> None:
    with pytest.raises(UnreadableModelError, match="does not load the file"):
        tflite.open(what, X, SAME)
