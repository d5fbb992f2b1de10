import mmap
import shutil
from pathlib import Path

import pytest

from hw_bench.bench import run_bench
from hw_bench.child import peak_pss_mib, pss_mib
from hw_bench.errors import MeasurementError, SubjectError
from hw_bench.machine import _cpu_model, machine
from hw_bench.scenarios import Effort
from hw_bench.subject import read_subject
from models.description import read_description, sha256_of

SHORT = Effort(warm_up_seconds=0.0, least_seconds=0.0, least_queries=20, most_seconds=2.0, offline_rows=16)


def test_every_variant_gets_both_scenarios_and_its_memory(student_folder: Path) -> None:
    told: list[str] = []
    report = run_bench(
        read_subject(student_folder), hardware_class="test", effort=SHORT, progress=told.append
    )
    assert told == ["onnx-int8", "tflite-int8"]
    assert [(entry.variant, entry.scenario, entry.queries) for entry in report.scenarios] == [
        ("onnx-int8", "single-stream", 20),
        ("onnx-int8", "offline", 20),
        ("tflite-int8", "single-stream", 20),
        ("tflite-int8", "offline", 20),
    ]
    for entry in report.scenarios:
        assert 0 < entry.p50_us <= entry.p90_us <= entry.p95_us <= entry.p99_us < 1e6
    for memory in report.memory:
        assert 10 < memory.pss_mib <= memory.peak_pss_mib < 500
    assert report.artifacts == {
        entry.name: sha256_of(student_folder / entry.filename)
        for entry in read_description(student_folder).variants
    }
    assert set(report.packages) == {"onnxruntime", "ai-edge-litert"}


def test_a_file_that_does_not_load_fails_with_its_last_words(student_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(student_folder, broken)
    (broken / "digits-int8.onnx").write_bytes(b"not a model")
    with pytest.raises(
        MeasurementError, match=r"onnx-int8: its process ended with 1: .*UnreadableModelError"
    ):
        run_bench(read_subject(broken), hardware_class="test", effort=SHORT)


def test_subjects_that_cannot_be_measured(student_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match="is not a release folder"):
        read_subject(tmp_path)
    incomplete = tmp_path / "incomplete"
    shutil.copytree(student_folder, incomplete)
    (incomplete / "digits-int8.tflite").unlink()
    with pytest.raises(SubjectError, match=r"digits-int8.tflite does not exist"):
        read_subject(incomplete)


def test_peak_is_not_below_now() -> None:
    # Mapped by hand: malloc may take 40 MiB out of a hole in its heap, and keep them when they are freed.
    ballast = mmap.mmap(-1, 40 * 2**20)
    ballast.write(b"x" * len(ballast))
    with_ballast = pss_mib()
    ballast.close()
    assert pss_mib() < with_ballast - 30
    assert peak_pss_mib() > with_ballast - 5


def test_the_machine_in_words(tmp_path: Path) -> None:
    assert "logical CPUs, Linux" in machine()
    board = tmp_path / "cpuinfo"
    board.write_text("processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.5\n")
    assert _cpu_model(board) == "Raspberry Pi 4 Model B Rev 1.5"
    board.write_text("processor\t: 0\nmodel name\t: A\nprocessor\t: 1\nmodel name\t: B\n")
    assert _cpu_model(board) == "A"
    assert _cpu_model(tmp_path / "absent") is None
