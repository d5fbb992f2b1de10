import stat
from pathlib import Path

import pytest

from agent.store.durable_file import (
    create_durable,
    move_durable,
    remove_durable,
    sweep_temporary,
    write_durable,
)


def test_write_replaces_whole_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "state.json"
    write_durable(path, b"one", mode=0o600)
    write_durable(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [child.name for child in path.parent.iterdir()] == ["state.json"]


def test_write_that_fails_keeps_the_old_content_and_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    (path / "child").write_bytes(b"x")  # a folder in the way: the rename fails
    with pytest.raises(OSError, match="file"):
        write_durable(path, b"new")
    assert (path / "child").read_bytes() == b"x"
    assert [child.name for child in tmp_path.iterdir()] == ["file"]


def test_create_never_replaces(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_durable(path, b"first", mode=0o600)
    with pytest.raises(FileExistsError):
        create_durable(path, b"second")
    assert path.read_bytes() == b"first"
    assert [child.name for child in tmp_path.iterdir()] == ["key"]


def test_move_creates_the_target_folder(tmp_path: Path) -> None:
    source = tmp_path / "partial"
    source.write_bytes(b"bytes")
    move_durable(source, tmp_path / "deep" / "er" / "final")
    assert (tmp_path / "deep" / "er" / "final").read_bytes() == b"bytes"
    assert not source.exists()


def test_remove_says_whether_there_was_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_durable(path, b"")
    assert remove_durable(path)
    assert not remove_durable(path)


def test_sweep_takes_interrupted_writes_only(tmp_path: Path) -> None:
    (tmp_path / ".state.json.abc.tmp").write_bytes(b"half")
    write_durable(tmp_path / "state.json", b"whole")
    assert [path.name for path in sweep_temporary(tmp_path)] == [".state.json.abc.tmp"]
    assert [child.name for child in tmp_path.iterdir()] == ["state.json"]
