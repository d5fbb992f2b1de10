"""Windows and days as Parquet, read back by pyarrow alone."""

import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from agent.protocol.drift import AccuracyEstimate, Alarm
from cloud_hub.cli import main
from cloud_hub.config import load_config
from cloud_hub.database import Database
from cloud_hub.telemetry import export as exporting
from cloud_hub.telemetry import rollups
from cloud_hub.telemetry.adding import DAY
from tests.support.drift_fleets import reference
from tests.support.drift_windows import store, window, without_counts

pq = pytest.importorskip(
    "pyarrow.parquet", reason="pyarrow is not installed: pip install 'edgeward[parquet]'"
)

SIGNED = reference(2)
NOON = 20_000 * DAY + 43_200.0
ESTIMATE = AccuracyEstimate(accuracy=0.9, low=0.85, high=0.95, level=0.95, rows=500)


@pytest.fixture
def filled(home: Path) -> Path:
    """A hub's folder with windows of two devices over three days."""
    _config, paths = load_config(home / "hub.toml")
    database = Database(paths.database)
    database.migrate()
    for number, device in enumerate(("cam-a", "cam-b")):
        windows = {
            day + 1: window(
                SIGNED,
                NOON + day * DAY,
                seed=10 * number + day,
                estimate=ESTIMATE,
                alarm=Alarm(level="ok", since=1, windows=3),
            )
            for day in range(3)
        }
        windows[4] = window(SIGNED, NOON, seed=4, model="other")
        windows[5] = without_counts(window(SIGNED, NOON + 5, slice_="site=a"))
        database.write(lambda session: store(session, device, windows, NOON + 3 * DAY))  # noqa: B023 - awaited
    batch = database.read(lambda session: rollups.look(session, lambda _model, _release: SIGNED))
    database.write(lambda session: rollups.take_in(session, batch))
    database.close()
    return home


def run(home: Path, *words: str) -> int:
    return main(["telemetry", "export", *words, "--config", str(home / "hub.toml")])


def test_windows_are_one_row_for_each_signal(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "windows.parquet"
    assert run(filled, "--from", "2024-10-01", str(out)) == 0
    assert "10 windows, 18 rows" in capsys.readouterr().out
    table = pq.read_table(out)
    assert table.num_rows == 18
    assert table.schema.metadata[b"format"] == b"edgeward.telemetry.1"
    rows = table.to_pylist()
    first = rows[0]
    expected = window(SIGNED, NOON, seed=0)
    assert (first["device"], first["model"], first["release"], first["sequence"]) == ("cam-a", "digits", 1, 1)
    assert first["closed"] == datetime.fromtimestamp(NOON, UTC)
    assert (first["rows"], first["level"], first["alarm"], first["accuracy"]) == (500, "ok", "ok", 0.9)
    assert tuple(first["counts"]) == expected.signals[first["signal"]].counts
    (incomplete,) = [row for row in rows if row["incomplete"] and row["device"] == "cam-b"]
    assert (incomplete["slice"], incomplete["signal"], incomplete["counts"]) == ("site=a", None, None)
    assert list(tmp_path.glob(".*part")) == []


def test_time_model_and_device_narrow_it(filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "some.parquet"
    words = ("--from", "2024-10-05", "--to", "2024-10-06T00:00", "--model", "digits", "--device", "cam-b")
    assert run(filled, *words, str(out)) == 0
    rows = pq.read_table(out).to_pylist()
    assert {(row["device"], row["model"], row["sequence"]) for row in rows} == {("cam-b", "digits", 2)}


def test_days_are_the_roll_ups(filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "days.parquet"
    assert run(filled, "--from", "2024-10-04", "--model", "digits", "--days", str(out)) == 0
    rows = [row for row in pq.read_table(out).to_pylist() if row["device"] == "cam-a" and not row["slice"]]
    assert [row["day"] for row in rows[::2]] == [date(2024, 10, 4), date(2024, 10, 5), date(2024, 10, 6)]
    assert all(sum(row["counts"]) == row["rows"] == 500 for row in rows)


def test_many_rows_are_written_group_by_group(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROW_GROUP", 4)
    out = tmp_path / "groups.parquet"
    assert run(filled, "--from", "2024-10-01", str(out)) == 0
    file = pq.ParquetFile(out)
    assert file.metadata.num_row_groups >= 4
    assert file.metadata.num_rows == 18


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--from", "yesterday"), "--from 'yesterday'"),
        (("--from", "2024-10-02", "--to", "2024-10-01"), "not after"),
        (("--from", "2024-10-02", "--model", "../x"), "not a name"),
    ],
)
def test_wrong_words_are_told(
    filled: Path, tmp_path: Path, words: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(filled, *words, str(tmp_path / "x.parquet")) == 1
    assert text in capsys.readouterr().err
    assert not (tmp_path / "x.parquet").exists()


def test_nothing_is_written_over_and_nothing_is_left_half(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.parquet"
    there.write_text("mine")
    assert run(filled, "--from", "2024-10-02", str(there)) == 1
    assert there.read_text() == "mine"
    assert run(filled, "--from", "2024-10-02", str(tmp_path / "no" / "folder.parquet")) == 1
    assert "no/folder.parquet" in capsys.readouterr().err


def test_without_pyarrow_it_says_what_to_install(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run(filled, "--from", "2024-10-02", str(tmp_path / "x.parquet")) == 1
    assert "edgeward[hub,parquet]" in capsys.readouterr().err


def test_a_time_that_no_calendar_has_stops_no_export() -> None:
    assert [exporting._micro(time) for time in (1e300, float("inf"), -5.0)] == [
        253_402_300_799_000_000,
        253_402_300_799_000_000,
        0,
    ]
