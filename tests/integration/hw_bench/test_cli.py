"""``python -m hw_bench run`` as a person runs it."""

import subprocess
import sys
from pathlib import Path

from agent.protocol.codec import decode_json
from agent.protocol.evidence import BenchReport

REPOSITORY = Path(__file__).parents[3]
PNG = b"\x89PNG\r\n\x1a\n"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hw_bench", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_report_and_picture(teacher_folder: Path, tmp_path: Path) -> None:
    report, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    answer = run(
        "run", teacher_folder, "--hardware-class", "camera", "--out", report, "--plot", picture, "--quick"
    )
    assert answer.returncode == 0, answer.stderr
    assert "onnx-fp32      single-stream" in answer.stdout
    decoded = decode_json(report.read_bytes(), BenchReport)
    assert (decoded.model, decoded.hardware_class) == ("digits", "camera")
    assert {entry.scenario for entry in decoded.scenarios} == {"single-stream", "offline"}
    assert all(entry.queries >= 1 for entry in decoded.scenarios)
    assert picture.read_bytes().startswith(PNG)


def test_wrong_calls(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    answer = run("run", tmp_path, "--hardware-class", "camera", "--out", out)
    assert answer.returncode == 1
    assert answer.stderr.startswith("hw_bench: ")
    assert "is not a release folder" in answer.stderr
    assert not out.exists()
    answer = run("run", tmp_path, "--hardware-class", "Big Camera", "--out", out)
    assert answer.returncode == 2
    assert "1-64 of a-z 0-9 . _ -" in answer.stderr
