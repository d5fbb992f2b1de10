"""The study in small, seeded: false alarms within the stated level, broken sensors seen at once, estimates that hold."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from hw_bench.__main__ import main
from hw_bench.drift_study.accuracy import accuracy
from hw_bench.drift_study.command import BEGIN, END
from hw_bench.drift_study.false_alarms import WINDOWS, false_alarms
from hw_bench.drift_study.power import changes, delay
from hw_bench.drift_study.report import StudyReport, clustered_rate, median
from hw_bench.drift_study.streams import WINDOW_ROWS, Draw
from hw_bench.drift_study.study import ALARM_LEVEL, QUICK, STATED_LEVEL, run_study
from hw_bench.drift_study.subjects import POLICY, SUBJECTS, Subject, photos_subject, table_subject
from tests.support.counts import count


def _change(subject: Subject, kind: str, strength: str) -> Draw:
    return next(draw for found, how, draw in changes(subject) if (found, how) == (kind, strength))


@pytest.mark.parametrize("name", ["photos", "table"])
def test_where_nothing_changes_hardly_anything_is_said(name: str) -> None:
    found = false_alarms(SUBJECTS[name](), references=50, seed=3)
    assert found.windows == 50 * WINDOWS
    assert found.warning.rate <= STATED_LEVEL
    assert found.alarm.rate <= ALARM_LEVEL
    assert found.changed.rate <= STATED_LEVEL


def test_rows_that_stay_are_fewer_than_they_seem_and_the_page_says_what_comes_of_it() -> None:
    found = false_alarms(table_subject(), references=10, seed=3, stay=10)
    assert found.stay == 10
    assert found.warning.low > STATED_LEVEL


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(SUBJECTS))
def test_over_four_thousand_windows_the_rate_is_within_its_stated_level(
    name: str, request: pytest.FixtureRequest
) -> None:
    found = false_alarms(SUBJECTS[name](), references=500, seed=4)
    count(request, f"no drift, {name}", windows=found.windows, said_per_mille=1000 * found.warning.rate)
    assert found.windows >= 4_000
    assert found.warning.high <= STATED_LEVEL
    assert found.alarm.high <= ALARM_LEVEL
    assert found.changed.high <= STATED_LEVEL


def test_a_sensor_that_reads_high_is_seen_at_once_and_the_alarm_comes_when_it_has_persisted() -> None:
    subject = table_subject()
    draw = _change(subject, "three sensors read high", "by 1.0 deviations")
    found = delay(subject, "three sensors read high", "by 1.0 deviations", draw, runs=20, seed=1)
    assert found.early == 0
    assert median(found.verdict) <= 2 * WINDOW_ROWS
    assert None not in found.alarm
    assert all(0 < rows <= (POLICY.persistence + 1) * WINDOW_ROWS for rows in found.alarm if rows is not None)
    assert median(found.alarm) > median(found.verdict)
    assert found.drift_windows == 1.0


def test_a_change_too_small_for_a_window_is_not_seen() -> None:
    subject = table_subject()
    found = delay(subject, "none", "", Draw(subject.clean), runs=10, seed=1)
    assert median(found.alarm) == float("inf")
    assert found.drift_windows <= 0.05
    assert len(found.verdict) == 10


def test_the_estimated_accuracy_holds_the_real_one_where_inputs_stay_what_they_were() -> None:
    subject = photos_subject()
    found = accuracy(subject, "none", "", Draw(subject.clean), calibrations=30, seed=1)
    assert found.off == 0
    assert found.error < 0.03
    assert found.coverage.rate >= 0.9


def test_another_mix_of_classes_breaks_the_assumption_and_the_page_says_so() -> None:
    """A label shift changes how often a confidence is right: the estimate stays where it was."""
    subject = photos_subject()
    draw = Draw(subject.clean, subject.weights["shifted classes"]["8 times"])
    found = accuracy(subject, "shifted classes", "8 times", draw, calibrations=30, seed=1)
    assert found.bias > 0.05
    assert found.coverage.rate < 0.5


def test_a_rate_of_independent_windows_has_wilsons_interval_and_one_of_alike_ones_a_wider() -> None:
    rng = np.random.default_rng(0)
    independent = [list(map(bool, row)) for row in rng.uniform(size=(200, 5)) < 0.1]
    alike = [[bool(one)] * 5 for one in rng.uniform(size=200) < 0.1]
    first, second = clustered_rate(independent), clustered_rate(alike)
    assert first.low < 0.1 < first.high
    assert second.low < 0.1 < second.high
    assert second.high - second.low > 1.8 * (first.high - first.low)  # √5 is 2.24


def test_no_event_in_many_windows_is_only_as_sure_as_the_references_are_many() -> None:
    none = clustered_rate([[False] * 8] * 100)
    assert none.rate == none.low == 0
    assert none.high == pytest.approx(0.037, abs=0.001)  # Wilson: 3.84 / (100 + 3.84)
    assert clustered_rate([]).high == 1


def test_never_counts_as_later_than_anything() -> None:
    assert median((300, None, 600)) == 600
    assert median((300, None, None)) == float("inf")
    assert median(()) == float("inf")


@pytest.fixture(scope="module")
def report() -> StudyReport:
    """The smallest study: a table alone."""
    effort = msgspec.structs.replace(QUICK, references=4, runs=3, calibrations=2)
    return run_study(effort, ["table"], "python -m hw_bench drift-study", lambda _: None)


def test_tables_and_pictures_are_made_of_what_was_measured(
    report: StudyReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "study.json"
    source.write_bytes(msgspec.json.encode(report))
    for name in ("drift-power.md", "accuracy.md"):
        (tmp_path / name).write_text(f"# Page\n{BEGIN}\n{END}\nrest\n")
    assert main(["drift-study", "--from", str(source), "--docs", str(tmp_path)]) == 0
    power, estimated = ((tmp_path / name).read_text() for name in ("drift-power.md", "accuracy.md"))
    assert f"| table | once | 33 | 4 | {4 * WINDOWS} |" in power
    assert power.count("| three sensors read high |") == 4
    assert estimated.count("| shifted classes |") == 4
    assert estimated.endswith(f"{END}\nrest\n")
    assert "three sensors read high" in capsys.readouterr().out
    for name in ("false-alarms", "delay", "accuracy"):
        drawn = (tmp_path / "images" / f"drift-{name}.svg").read_text()
        assert "<svg" in drawn
        assert "table" in drawn


def test_the_same_figures_give_the_same_pictures(report: StudyReport, tmp_path: Path) -> None:
    from hw_bench.drift_study.plots import draw

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        draw(report, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_pages_without_markers_and_a_broken_report_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "accuracy.md").write_text("mine\n")
    assert main(["drift-study", "--quick", "--docs", str(tmp_path)]) == 1
    assert "accuracy.md is there, and is not written over" in capsys.readouterr().err
    (tmp_path / "broken.json").write_text("{}")
    assert main(["drift-study", "--from", str(tmp_path / "broken.json")]) == 1
    assert "can't be read as a study" in capsys.readouterr().err
