"""``python -m hw_bench serving`` as a person runs it."""

import subprocess
import sys
from pathlib import Path

import msgspec

from hw_bench.serving.report import ServingReport
from hw_bench.serving.table import BEGIN, END

REPOSITORY = Path(__file__).parents[4]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hw_bench", "serving", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_a_short_run(student_folder: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "serving.json", tmp_path / "page.md"
    page.write_text(f"# Page\n{BEGIN}\n{END}\nrest\n", encoding="utf-8")
    answer = run(
        student_folder,
        *("--part", "requests", "--part", "spawn", "--quick"),
        *("--server", "echo", "--server", "edgeward", "--server", "triton", "--peers", tmp_path / "none"),
        *("--out", out, "--markdown", page),
    )
    assert answer.returncode == 0, answer.stderr
    report = msgspec.json.decode(out.read_bytes(), type=ServingReport)
    assert {(entry.route, entry.clients) for entry in report.measured} == {
        (route, clients) for route in ("echo", "edgeward", "edgeward JSON") for clients in (1, 4)
    }
    assert all(len(entry.samples) == 3 for entry in report.measured)
    assert {(entry.target.of, entry.target.to) for entry in report.outcomes} == {("edgeward", "echo")}
    assert {figure.unit for figure in report.figures} == {"ms"}
    assert set(report.servers) == {"echo", "edgeward"}
    assert "is not installed" in report.absent["triton"]
    assert "ABSENT triton" in answer.stdout
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Page\n")
    assert text.endswith(f"{END}\nrest\n")
    assert "| edgeward | 1 |" in text


def test_a_page_without_markers_is_not_written_over(student_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("mine\n", encoding="utf-8")
    answer = run(student_folder, "--part", "spawn", "--quick", "--markdown", page)
    assert answer.returncode == 1
    assert "is not written over" in answer.stderr
    assert page.read_text(encoding="utf-8") == "mine\n"
