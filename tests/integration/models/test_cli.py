"""The commands a person types, end to end, each as its own process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.protocol.codec import decode_json
from agent.protocol.evidence import BenchReport
from agent.protocol.manifest import Parent, ServiceLevel, decode_manifest
from models.description import sha256_of

REPOSITORY = Path(__file__).parents[3]


def run(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _bench_and_package(folder: Path, release: int, *more: str) -> None:
    bench = run(
        "hw_bench", "run", folder, "--hardware-class", "test", "--out", folder / "bench-test.json", "--quick"
    )
    assert bench.returncode == 0, bench.stderr
    _package(folder, release, *more)


def _package(folder: Path, release: int, *more: str) -> None:
    packaged = run(
        "models", "package", folder, "--release", str(release), "--hardware-class", "test",
        "--p99-ms", "50", "--memory-mib", "200", "--author", "ada", *more,
    )  # fmt: skip
    assert packaged.returncode == 0, packaged.stderr
    assert f"digits {release}: manifest.json names" in packaged.stdout


def test_from_teacher_to_two_bad_releases(tmp_path: Path) -> None:
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    made = run("models", "digits", "teacher", "--out", teacher)
    assert made.returncode == 0, made.stderr
    assert "onnx-fp32: accuracy 0.9" in made.stdout
    _bench_and_package(teacher, 1)

    made = run("models", "digits", "student", "--teacher", teacher, "--out", student)
    assert made.returncode == 0, made.stderr
    assert "tflite-int8: accuracy 0.9" in made.stdout
    _bench_and_package(
        student, 2, "--parent", "digits:1", "--probation-requests", "20", "--summary", "Smaller."
    )
    manifest = decode_manifest((student / "manifest.json").read_bytes())
    # The teacher was packaged before, so its release is known without being named.
    assert manifest.lineage.distilled_from == Parent(model="digits", release=1)
    assert manifest.lineage.quantized_from == sha256_of(student / "float" / "digits-student-fp32.onnx")
    assert (manifest.author, manifest.summary, manifest.probation.requests) == ("ada", "Smaller.", 20)
    budget = manifest.budgets["test"]
    assert budget.slo == ServiceLevel(p99_ms=4 * budget.p99_ms)

    for kind in ("wrong-outputs", "too-slow"):
        bad = tmp_path / kind
        made = run(
            "models", "digits", "fault", "--kind", kind, "--from", student, "--out", bad, "--delay-ms", "50"
        )
        assert made.returncode == 0, made.stderr
        assert not (bad / "manifest.json").exists()
        _package(bad, 3, "--parent", "digits:2")  # the good release's bench, re-addressed: no new measurement
        spoilt = decode_manifest((bad / "manifest.json").read_bytes())
        assert spoilt.golden == manifest.golden
        assert spoilt.variants[0].artifact != manifest.variants[0].artifact
        report = decode_json((bad / "bench-test.json").read_bytes(), BenchReport)
        assert report.artifacts == {entry.name: entry.artifact.sha256 for entry in spoilt.variants}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("package", ".", "--release", "0"), 2, "argument --release: 0: a whole number from 1 is needed"),
        (("package", ".", "--hardware-class", "A b"), 2, "1-64 of a-z 0-9 . _ -"),
        (("package", ".", "--p99-ms", "-1"), 2, "a number over 0 is needed"),
        (("package", ".", "--parent", "digits"), 2, "expected MODEL:RELEASE, for instance digits:1"),
        (("digits", "fault", "--kind", "odd"), 2, "choose from 'wrong-outputs', 'too-slow'"),
        (("digits", "student", "--teacher", "/nowhere", "--out", "/nowhere/out"), 1, "/nowhere is not a release folder"),
        ((), 2, "the following arguments are required: COMMAND"),
    ],
)  # fmt: skip
def test_wrong_calls_say_what_is_allowed(arguments: tuple[str, ...], status: int, words: str) -> None:
    answer = run("models", *arguments)
    assert answer.returncode == status
    assert words in answer.stderr.replace(
        "invalid choice: 'odd' (choose from wrong-outputs, too-slow)", words
    )
    assert "Traceback" not in answer.stderr


def test_packaging_without_a_bench_is_refused_with_the_command_that_makes_one(student_folder: Path) -> None:
    answer = run(
        "models", "package", student_folder, "--release", "2", "--hardware-class", "gateway",
        "--p99-ms", "50", "--memory-mib", "200", "--distilled-from", "digits:1",
    )  # fmt: skip
    assert answer.returncode == 1
    assert "python -m hw_bench run" in answer.stderr
    assert "--hardware-class gateway" in answer.stderr
    assert not (student_folder / "manifest.json").exists()
