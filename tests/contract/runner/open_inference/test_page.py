"""docs/open-inference-protocol.md says what the program does, and its examples run."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.runner.backends import DATATYPES
from agent.runner.descriptions import EXTENSIONS, SHARED_MEMORY_EXTENSION
from agent.runner.model_routes import ModelRoutes
from agent.runner.server_routes import ServerRoutes
from tests.contract.runner import tiny_models as tiny
from tests.contract.runner.open_inference.clients import UnixClient
from tests.contract.runner.open_inference.conftest import running
from tests.integration.runner.runner_under_test import RunnerUnderTest

PAGE = (Path(__file__).parents[4] / "docs" / "open-inference-protocol.md").read_text()
ADDRESS, SOCKET = "127.0.0.1:8600", "/run/edgeward/models/digits.sock"


def rows(section: str) -> list[list[str]]:
    """The cells of the table in a section, without its head."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def paths() -> dict[tuple[str, str], str]:
    told = {}
    for path, word, note in rows("Paths"):
        method, template = path.strip("`").split()
        told[method, template] = word
        if "/versions/{version}" in note or template == "/v2/models/{model}/infer":
            told[method, template.replace("{model}", "{model}/versions/{version}")] = word
    return told


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunnerUnderTest]:
    """A model with the tensors of the README's."""
    weight = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    content = tiny.onnx_bytes(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10])],
        [numpy_helper.from_array(weight, "weight")],
    )
    start = {
        "model": "digits",
        "content": content,
        "inputs": (tiny.spec("image", "FP32", -1, 8, 8),),
        "outputs": (tiny.spec("probabilities", "FP32", -1, 10),),
        "shared_memory": "unix+tcp",
    }
    with running(tmp_path_factory.mktemp("digits"), **start) as runner:
        yield runner


def here(example: str, runner: RunnerUnderTest) -> str:
    host, port = runner.tcp.getsockname()
    return example.replace(ADDRESS, f"{host}:{port}").replace(SOCKET, str(runner.private_path))


def test_the_page_has_every_path_and_no_other() -> None:
    routes = [
        *ServerRoutes.routes(ServerRoutes.__new__(ServerRoutes)),
        *ModelRoutes.routes(ModelRoutes.__new__(ModelRoutes)),
    ]
    assert sorted(paths()) == sorted((route.method.decode(), route.template) for route in routes)


NAMES = {"model": "digits", "version": "1", "name": "digits", "region": "r"}


def test_what_the_page_calls_refused_is_refused_and_nothing_else(
    digits: RunnerUnderTest, subtests: pytest.Subtests
) -> None:
    client = UnixClient("", digits.private_path)
    body = {"register": b'{"key": "nothing", "byte_size": 1}', "infer": b"{}"}
    for (method, template), word in paths().items():
        with subtests.test(path=template, method=method):
            path = template.format(**NAMES).lstrip("/")
            status = client.send(method, path, body.get(path.rpartition("/")[2], b"")).status
            assert (status in {403, 405, 501}) == word.startswith("refused"), (status, word)
            assert word.endswith(str(status)) or not word.startswith("refused")
            if method == "GET":
                assert client.send("HEAD", path).status == status
    client.close()


def test_the_page_has_every_extension_and_says_which_are_listed(digits: RunnerUnderTest) -> None:
    told = {name.strip("`"): word for name, word, _ in rows("Extensions")}
    listed = {name for name, word in told.items() if word == "listed"}
    assert listed == set(EXTENSIONS)
    assert told[SHARED_MEMORY_EXTENSION] == "listed where allowed"
    client = UnixClient("", digits.private_path)
    assert set(client.get_server_metadata()["extensions"]) == {*listed, SHARED_MEMORY_EXTENSION}
    client.close()


def test_the_page_has_every_data_type() -> None:
    told = {
        name for cells in rows("Tensors") if cells[1] != "no" for name in re.findall(r"`(\w+)`", cells[0])
    }
    assert told == set(DATATYPES)


@pytest.mark.parametrize("example", blocks("python"))
def test_its_python_runs(digits: RunnerUnderTest, example: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", here(example, digits)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is not installed: the page's shell examples are not run"
)
def test_its_shell_commands_run(digits: RunnerUnderTest, tmp_path: Path) -> None:
    (script,) = blocks("bash")
    script = (
        here(script, digits)
        .replace("curl -s ", "curl -sS --fail-with-body ")
        .replace("python -c", f"{sys.executable} -c")
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert '"probabilities"' in done.stdout
    assert re.search(r'"0\.\d{6}:\d"', done.stdout)
    assert "edgeward_rows_total" in done.stdout
    assert (tmp_path / "answer").stat().st_size > 40
