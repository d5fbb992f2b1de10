"""``docs/telemetry.md`` explains each table, view and column, and none that there is not."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.sending import SPANS
from agent.store.schema import migrate

PAGE = Path(__file__).parents[3] / "docs" / "telemetry.md"


def explained() -> dict[str, set[str]]:
    """Table or view → the columns that stand in its list, before the colon or with others in a line."""
    found: dict[str, set[str]] = {}
    for part in re.split(r"^#{2,3} ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading = re.match(r"`(\w+)`\n", part)
        if heading is None:
            continue
        lines = [line for line in part.splitlines() if line.startswith("- `")]
        assert all(": " in line for line in lines), f"{heading[1]}: a column without words"
        # Of `a`, `b` (words): …; and further columns of the same line after a full stop: … `c`: …
        names = {
            name
            for line in lines
            for clause in re.split(r"(?<=\.) (?=`)", line)
            for name in re.findall(r"`(\w+)`", clause.partition(": ")[0])
        }
        found[heading[1]] = names
    return found


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    path = Path(migrate(tmp_path_factory.mktemp("page")).path)
    with closing(sqlite3.connect(path)) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')"
            )
        ]
        return {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in names}


def test_each_table_and_view_has_its_section(columns: dict[str, set[str]]) -> None:
    assert explained().keys() == columns.keys()


def test_each_column_is_explained_and_none_that_there_is_not(columns: dict[str, set[str]]) -> None:
    page = explained()
    differing = {name: page.get(name, set()) ^ names for name, names in columns.items()}
    assert {name: odd for name, odd in differing.items() if odd} == {}


def test_each_view_answers(tmp_path: Path) -> None:
    path = Path(migrate(tmp_path).path)
    with closing(sqlite3.connect(path)) as connection:
        views = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'view'")]
        assert len(views) >= 13
        for name in views:
            assert connection.execute(f"SELECT * FROM {name}").description


def test_each_stage_of_the_budget_is_in_the_table() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert rows == list(SPANS)
