import io

from rich.console import Console

from hw_bench.serving.pairs import Sample, spread
from hw_bench.serving.report import ServingReport, summarise
from hw_bench.serving.table import markdown, show
from hw_bench.serving.targets import Figure, outcomes


def report() -> ServingReport:
    def rounds(p50: float) -> list[Sample]:
        return [
            Sample(p50_us=p50, p95_us=2 * p50, p99_us=3 * p50, requests_per_second=1e6 / p50, requests=100)
        ] * 3

    found = {
        ("edgeward", 1): rounds(120.0),
        ("triton", 1): rounds(240.0),
        ("echo", 1): rounds(80.0),
    }
    return ServingReport(
        machine="a board",
        made="2026-01-01T00:00:00+00:00",
        command="python -m hw_bench serving",
        model="digits",
        packages={"onnxruntime": "1.22.0"},
        load_before=0.1,
        load_after=1.2,
        servers={"edgeward": "one runner", "triton": "its server", "echo": "a constant"},
        absent={"mlserver": "not installed"},
        measured=summarise(found),
        outcomes=outcomes(found),
        figures=(Figure(name="runner", unit="MiB", value=spread([70.0]), at_most=64.0, note="RSS 71.0"),),
    )


def test_markdown_says_what_was_kept_missed_and_absent() -> None:
    text = markdown(report())
    assert "| edgeward | 1 | 120 | 240 | 360 | 8,333 |" in text
    assert "| p50: edgeward / triton | 1 | 0.50 | 0.50-0.50 | ≤ 0.55 | kept |" in text
    assert "| p50: edgeward / echo | 1 | 1.50 | 1.50-1.50 | ≤ 1.25 | **missed** |" in text
    assert "| runner | 70.0 MiB |  | ≤ 64 | **missed** | RSS 71.0 |" in text
    assert "- **mlserver**: ABSENT, not installed." in text
    assert "onnxruntime 1.22.0" in text
    assert "`python -m hw_bench serving`" in text


def test_the_terminal_shows_the_same() -> None:
    console = Console(file=io.StringIO(), width=120)
    show(report(), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    for words in (
        "ABSENT mlserver: not installed",
        "edgeward / triton",
        "0.50",
        "kept",
        "missed",
        "70.0 MiB",
    ):
        assert words in text
