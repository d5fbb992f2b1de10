"""tflite-runtime needs numpy<2, so it has an environment of its own: made once in .cache/, and the suite runs in it."""

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from agent.protocol.codec import encode_msgpack
from agent.protocol.golden import GoldenVectors, Tensor
from agent.protocol.runner import ProbeReport

ROOT = Path(__file__).parents[3]
SUITE = "tests/contract/runner/backends"
TOOLS = ["pytest>=8.3", "pytest-asyncio>=1.0", "pytest-timeout>=2.3"]
INSTALL_SECONDS = 150

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12) or platform.machine() not in {"x86_64", "aarch64", "armv7l"},
    reason=f"tflite-runtime has no wheel for CPython {platform.python_version()} on {platform.machine()}",
)


def _environment(name: str, *packages: str) -> Path:
    """The interpreter of a cached environment that holds ``packages``."""
    metadata = (ROOT / "pyproject.toml").read_bytes()
    key = hashlib.sha256(metadata + repr((packages, sys.version)).encode()).hexdigest()[:12]
    folder = ROOT / ".cache" / f"{name}-{key}"
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run([*uv, "venv", "--allow-existing", "--python", sys.executable, folder], check=True)
        install = subprocess.run(
            [*uv, "pip", "install", "--python", python, *packages],
            cwd=ROOT,
            timeout=INSTALL_SECONDS,
            capture_output=True,
            text=True,
            check=False,
        )
        if install.returncode != 0 and _is_offline(install.stderr):
            pytest.skip(f"no network to install {' '.join(packages)}: {install.stderr[-300:]}")
        assert install.returncode == 0, install.stderr
        done.touch()
    return python


def _is_offline(text: str) -> bool:
    return any(
        sign in text
        for sign in ("dns error", "Connection refused", "Network is unreachable", "error sending request")
    )


@pytest.fixture(scope="module")
def legacy() -> Path:
    return _environment("tflite-legacy", f"{ROOT}[tflite-legacy]", *TOOLS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.contract.runner.backends.model_files import write_all

    folder = tmp_path_factory.mktemp("files")
    write_all(folder)
    return folder


def _run(python: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


def test_the_backends_suite_passes_on_tflite_runtime(legacy: Path, files: Path) -> None:
    result = _run(
        legacy, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE, EDGEWARD_MODEL_FILES=str(files)
    )
    assert result.returncode == 0, result.stdout + result.stderr
    passed = int(result.stdout.rsplit(" passed", 1)[0].split()[-1])
    assert passed > 90


def test_it_is_tflite_runtime_that_was_tested(legacy: Path) -> None:
    result = _run(legacy, "-c", "from agent.runner.backends import available_runtimes as a; print(a())")
    assert "'tflite': 'tflite-runtime 2.14.0'" in result.stdout
    assert "onnx" not in result.stdout


WITH_NUMPY_2 = """
from pathlib import Path
from agent.daemon import _runtimes
from agent.protocol.manifest import TensorSpec
from agent.runner.backends import RuntimeMissingError, available_runtimes, open_backend
assert available_runtimes() == {}, available_runtimes()
assert _runtimes() == frozenset(), _runtimes()
x = [TensorSpec(name="x", datatype="FP32", shape=(-1, 4))]
try:
    open_backend("tflite", Path("/absent"), inputs=x, outputs=x)
except RuntimeMissingError as error:
    print(error)
"""


def test_beside_numpy_2_it_is_not_promised_and_refused_with_what_to_do() -> None:
    python = _environment("tflite-numpy2", str(ROOT), "tflite-runtime==2.14.0", "numpy>=2")
    result = _run(python, "-c", WITH_NUMPY_2)
    assert result.returncode == 0, result.stderr
    assert "tflite-runtime needs numpy<2; here is numpy 2." in result.stdout
    assert "pip install 'edgeward[tflite]'" in result.stdout
    assert "edgeward[tflite-legacy]" in result.stdout


PROBE = """
import sys
from pathlib import Path
import msgspec
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import Probe
from agent.runner.backends import open_backend
from agent.runner.openinference import Contract
from agent.runner.probe import run_probe
folder = Path(sys.argv[1])
inputs = [TensorSpec(name="x", datatype="FP32", shape=(-1, 64))]
outputs = [TensorSpec(name="y", datatype="FP32", shape=(-1, 10))]
backend = open_backend("tflite", folder / "model", inputs=inputs, outputs=outputs)
probe = Probe(golden_path=str(folder / "golden"), warmup=0, repetitions=1)
report = run_probe(probe, backend=backend, contract=Contract(inputs, outputs), variant="tflite-int8")
print(msgspec.json.encode(report).decode())
"""


def test_a_file_that_the_two_libraries_compute_differently_fails_its_golden_vectors(
    legacy: Path, tmp_path: Path
) -> None:
    """INT8 weights of one scale a column: tflite-runtime takes the first scale for all, without an error."""
    from tests.contract.runner.tiny_tflite import dynamic_range

    chance = np.random.default_rng(0)
    weight = chance.normal(size=(64, 10)) * np.logspace(-1, 1, 10)[chance.permutation(10)]
    x = chance.uniform(-0.5, 0.5, (200, 64)).astype(np.float32)
    y = (x @ weight).astype(np.float32)
    golden = GoldenVectors(
        inputs=(Tensor(name="x", datatype="FP32", shape=x.shape, data=x.tobytes()),),
        expected={"tflite-int8": (Tensor(name="y", datatype="FP32", shape=y.shape, data=y.tobytes()),)},
    )
    (tmp_path / "golden").write_bytes(encode_msgpack(golden))
    (tmp_path / "model").write_bytes(dynamic_range(weight.astype(np.float32)))
    agreement: dict[str, float] = {}
    for name, python in (("litert", Path(sys.executable)), ("legacy", legacy)):
        result = _run(python, "-c", PROBE, str(tmp_path))
        assert result.returncode == 0, result.stderr
        agreement[name] = msgspec.json.decode(result.stdout, type=ProbeReport).golden_class_agreement
    assert agreement["litert"] > 0.95
    assert agreement["legacy"] < 0.5
