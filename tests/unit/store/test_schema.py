import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agent.store.database import SCHEMA_VERSION
from agent.store.schema import main, migrate


def dump(path: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return [
            *connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name"),
            *connection.execute("SELECT * FROM meta"),
        ]


def test_as_a_command_it_makes_the_database_and_says_what_it_did(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.store.schema", str(tmp_path / "data")], capture_output=True, check=True
    )
    outcome = json.loads(done.stdout)
    assert outcome["before"] == 0
    assert outcome["after"] == SCHEMA_VERSION
    assert outcome["quarantined"] is None


def test_again_changes_nothing(tmp_path: Path) -> None:
    assert migrate(tmp_path).before == 0
    first = dump(tmp_path / "telemetry.db")
    assert migrate(tmp_path).before == SCHEMA_VERSION
    assert dump(tmp_path / "telemetry.db") == first


def test_a_damaged_database_is_set_aside_and_a_new_epoch_begins(tmp_path: Path) -> None:
    migrate(tmp_path)
    path = tmp_path / "telemetry.db"
    with closing(sqlite3.connect(path)) as connection:
        (old,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    path.write_bytes(b"this is no database at all, by any means" * 200)
    outcome = migrate(tmp_path)
    assert outcome.quarantined == str(tmp_path / "telemetry.db.damaged")
    assert outcome.problem == "file is not a database"
    assert (tmp_path / "telemetry.db.damaged").read_bytes().startswith(b"this is no")
    with closing(sqlite3.connect(path)) as connection:
        (new,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    assert new != old


def test_a_folder_that_can_not_be_written_is_an_error_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file" / "below")]) == 1
    assert "telemetry.db" in capsys.readouterr().err
