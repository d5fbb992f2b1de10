import io
import re
import sys

import pytest
from msgspec.structs import replace

from agent.cli.bars import ASCII, BLOCKS, bullet, histogram, style_of, timeline
from agent.cli.drift_words import next_steps, state
from agent.cli.render import render
from agent.protocol.control import DriftMark, DriftReport, DriftResult
from agent.protocol.drift import Alarm, VerdictLevel
from agent.protocol.labels import AccuracyFigure
from tests.support.drift_reports import report


@pytest.fixture(scope="module")
def sick() -> DriftReport:
    return report()


def shown(
    capsys: pytest.CaptureFixture[str],
    found: DriftReport,
    signal: str | None = None,
    *,
    ascii_only: bool = False,
) -> list[str]:
    render(DriftResult(reports=(found,)), signal=signal, ascii_only=ascii_only)
    return capsys.readouterr().out.splitlines()


def test_the_signal_that_moved_is_drawn_first_then_and_now(
    sick: DriftReport, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(capsys, sick)
    assert lines[0] == "digits release 2: drift since 2026-11-18 08:06 (4 windows, 4 h 0 min)"
    titles = [line.split()[0] for line in lines if "PSI" in line and line[:1].isalpha()]
    assert titles[0] == "sharpness"
    assert len(titles) == 3, "the three that moved most"
    then, now = (next(line for line in lines if line.startswith(name)) for name in ("then", "now"))
    first_then, first_now = (re.search(r"[▁-█]", line[10:]) for line in (then, now))
    assert first_then is not None
    assert first_now is not None
    assert now.index("█") < then.index("█"), "it fell, so its rows stand further left"


def test_the_line_of_verdicts_is_read_without_colours(
    sick: DriftReport, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(capsys, sick)
    at = next(place for place, line in enumerate(lines) if line.startswith("verdicts"))
    assert lines[at] == "verdicts  ▂▂▂▂████"
    assert lines[at + 1].rstrip() == "           ˅  cut off"
    assert "\x1b" not in "\n".join(lines), "no colours into a pipe"


def test_a_terminal_without_blocks_gets_letters(
    sick: DriftReport, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(shown(capsys, sick, ascii_only=True))
    assert "verdicts  ____####" in text
    assert text.isascii()


@pytest.mark.parametrize(
    ("encoding", "term", "tty", "blocks"),
    [
        ("utf-8", "xterm-256color", True, True),
        ("utf-8", "linux", True, False),
        ("utf-8", "dumb", True, False),
        ("utf-8", "dumb", False, True),
        ("iso8859-1", "xterm", True, False),
        ("ascii", "xterm", False, False),
    ],
)
def test_blocks_need_an_encoding_and_a_font(
    monkeypatch: pytest.MonkeyPatch, encoding: str, term: str, *, tty: bool, blocks: bool
) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return tty

    stream = Stream()
    monkeypatch.setattr(Stream, "encoding", encoding)
    monkeypatch.setenv("TERM", term)
    assert style_of(stream) is (BLOCKS if blocks else ASCII)
    assert style_of(stream, ascii_only=True) is ASCII


def test_one_signal_in_detail_is_a_line_a_bin(sick: DriftReport, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, sick, signal="sharpness")
    rows = [line for line in lines if re.match(r"  (under|over|[\d.]+ to [\d.]+) ", line)]
    assert len(rows) == len(sick.signals[0].counts.counts)
    assert "Wasserstein" in "\n".join(lines)
    assert not any(line.startswith("contrast") for line in lines)


@pytest.mark.parametrize("columns", [44, 60, 80, 200])
def test_nothing_is_wider_than_the_terminal(
    sick: DriftReport, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    for signal in (None, "sharpness"):
        render(DriftResult(reports=(sick,)), signal=signal)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert max(len(line) for line in lines) <= columns
    bars = [line for line in lines if re.match(r"(then|now) ", line)]
    assert bars
    assert all(len(line) > len("then      ") for line in bars), "a picture is not broken over lines"
    assert "\x1b[31m" not in out.getvalue()
    assert "\x1b[91m" not in out.getvalue()


def test_words_from_outside_can_not_steer_the_terminal(
    sick: DriftReport, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = replace(sick.window.verdict, reason="moved\x1b[2J far")
    hostile = replace(sick, window=replace(sick.window, verdict=verdict, slice=None, estimate_off="\x07 off"))
    text = "\n".join(shown(capsys, hostile))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "far" in text


def test_labels_stand_beside_the_estimate_and_the_models_own_do_not(
    sick: DriftReport, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = AccuracyFigure(
        model="digits",
        release=2,
        origin="person",
        opened=1.0,
        closed=2.0,
        rows=200,
        correct=150,
        low=0.69,
        high=0.81,
    )
    own = replace(figure, origin="model", correct=200)
    text = "\n".join(shown(capsys, replace(sick, accuracy=(figure, own))))
    assert "accuracy: by labels of a person 75 % right (69 % to 81 %, 200 rows)" in text
    assert "100 %" not in text.split("accuracy:", 1)[1]
    assert "site=north  ok  500 rows" in text


def test_nothing_closed_yet_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    render(DriftResult(reports=()))
    assert "no drift window has closed yet" in capsys.readouterr().out


def test_a_window_without_its_reference_still_says_its_verdict(
    sick: DriftReport, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = replace(sick, signals=(), reference_rows=None, policy=None, problem="its files are gone")
    text = "\n".join(shown(capsys, bare))
    assert "drift since" in text
    assert "its signals can't be drawn: its files are gone" in text


def test_what_to_do_goes_with_what_is_wrong(sick: DriftReport) -> None:
    assert next(next_steps(sick)).startswith("look at the sensor")
    stuck = replace(sick.signals[0], verdict=replace(sick.signals[0].verdict, constant=True))
    assert next(next_steps(replace(sick, signals=(stuck,)))).startswith("a signal hardly changes")
    gaps = replace(sick.signals[0], verdict=replace(sick.signals[0].verdict, psi=0.0, not_finite_rate=0.3))
    assert next(next_steps(replace(sick, signals=(gaps,)))).startswith("values are missing")
    (few,) = next_steps(report(rows=100))
    assert "at least 300 rows in a window, and the newest had 100" in few
    assert list(next_steps(report(sharpness=1.0))) == ["nothing"]


@pytest.mark.parametrize(
    ("alarm", "window", "level", "words"),
    [
        ("drift", "drift", "drift", "since"),
        ("ok", "drift", "drift", "in its newest window alone"),
        ("drift", "ok", "drift", "the alarm stands"),
        ("drift", "insufficient data", "drift", "since"),
        ("ok", "ok", "ok", "since"),
    ],
)
def test_one_window_alone_raises_and_ends_nothing(
    sick: DriftReport, alarm: VerdictLevel, window: VerdictLevel, level: str, words: str
) -> None:
    verdict = replace(sick.window.verdict, level=window)
    changed = replace(
        sick.window, verdict=verdict, alarm=Alarm(level=alarm, since=sick.window.closed - 60, windows=2)
    )
    found, said = state(replace(sick, window=changed))
    assert (found, words in said) == (level, True)


def marks(*levels: VerdictLevel) -> list[DriftMark]:
    return [
        DriftMark(closed=float(place), level=level, rows=1, release=1) for place, level in enumerate(levels)
    ]


OK: tuple[VerdictLevel, ...] = ("ok",)


def test_a_history_longer_than_the_line_keeps_its_worst() -> None:
    history = [*marks(*OK * 9), *marks("drift"), *marks(*OK * 90)]
    line = timeline(history, 20)
    assert (line.windows, len(line.marks)) == (5, 20)
    assert line.marks.count("drift") == 1
    assert timeline(marks("ok", "drift"), 20).marks == ("ok", "drift")
    assert timeline([*marks(*OK * 6), *marks("warning")], 3).marks[-1] == "warning"
    assert timeline([], 20).marks == ()


@pytest.mark.parametrize("style", [BLOCKS, ASCII])
def test_what_is_there_is_never_drawn_as_nothing(style: object) -> None:
    assert isinstance(style, type(BLOCKS))
    *_, last = histogram([0.0, 0.0001, 1.0], 1.0, 1, style)
    assert last[0] == " "
    assert last[1] != " "
    assert len(bullet(1.0, 0.5, 1.0, 10, style)) == 10
    assert bullet(0.0, 0.0, 0.0, 10, style) == ""
