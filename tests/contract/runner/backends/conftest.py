from pathlib import Path

import pytest

from agent.runner.backends.support import Support
from tests.contract.runner.backends.subject import INSTALLED, Subject


def _name(support: Support) -> str:
    return support.library


@pytest.fixture(params=INSTALLED, ids=_name)
def support(request: pytest.FixtureRequest) -> Support:
    found: Support = request.param
    return found


@pytest.fixture
def subject(support: Support, tmp_path: Path) -> Subject:
    return Subject(support, tmp_path)


@pytest.fixture(params=[found for found in INSTALLED if found.runtime == "tflite"], ids=_name)
def tflite(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return Subject(request.param, tmp_path)


@pytest.fixture(params=[found for found in INSTALLED if found.runtime == "onnx"], ids=_name)
def onnx(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return Subject(request.param, tmp_path)


@pytest.fixture(params=[found for found in INSTALLED if found.cancel], ids=_name)
def cancellable(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    """One that can be asked to end a run; the others' process is killed instead."""
    return Subject(request.param, tmp_path)
