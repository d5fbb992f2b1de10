"""The table in ``agent.store.mirrored``, row by row."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.store import mirrored as mirrored_module
from agent.store.errors import DamagedError, StoreClosedError
from agent.store.mirrored import MirroredStore

Harm = Callable[[Path], None]
VALUES = {"slots/digits": b'{"active":1}', "deployment/d1": b"\x00\xff"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that holds ``VALUES``, closed."""
    where = tmp_path / "state.db"
    with MirroredStore(where) as store:
        store.write({"gone": b"soon"})
        store.write({**VALUES, "gone": None})
    return where


def mirror(path: Path) -> Path:
    return path.with_name(f"{path.name}.mirror")


def problem(store: MirroredStore) -> str | None:
    return store.problem


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[: len(data) // 2] = b"\x5a" * (len(data) // 2)
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(path: Path) -> None:
    path.unlink()


def nothing(path: Path) -> None:
    pass


def test_absent_both_is_empty(tmp_path: Path) -> None:
    with MirroredStore(tmp_path / "new" / "state.db") as store:
        assert store.values() == {}
        assert store.generation == 0
        assert store.restored is None


@pytest.mark.parametrize("harm", [nothing, remove, damage, empty, truncate])
def test_a_good_database_is_enough_and_writes_its_mirror_again(path: Path, harm: Harm) -> None:
    harm(mirror(path))
    with MirroredStore(path) as store:
        assert store.values() == VALUES
    remove(path)
    with MirroredStore(path) as store:
        assert store.values() == VALUES


@pytest.mark.parametrize("harm", [remove, damage, empty, truncate])
def test_a_good_mirror_restores_the_database_and_says_so(path: Path, harm: Harm) -> None:
    harm(path)
    with MirroredStore(path) as store:
        assert store.values() == VALUES
        assert store.restored is not None
        assert "restored from its mirror" in store.restored
        store.write({"next": b"1"})
    with MirroredStore(path) as store:
        assert store.values() == {**VALUES, "next": b"1"}
        assert store.restored is None


HARM = (remove, damage, empty, truncate)
BOTH = [(one, other) for one in HARM for other in HARM if (one, other) != (remove, remove)]


@pytest.mark.parametrize(("harm_database", "harm_mirror"), BOTH)
def test_neither_readable_is_an_error_and_nothing_is_reset(
    path: Path, harm_database: Harm, harm_mirror: Harm
) -> None:
    harm_database(path)
    harm_mirror(mirror(path))
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    for _ in range(2):
        with pytest.raises(DamagedError, match=r"state\.db: .*mirror.*Nothing was changed"):
            MirroredStore(path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_an_older_database_does_not_win_over_its_mirror(path: Path) -> None:
    old = path.read_bytes()
    with MirroredStore(path) as store:
        store.write({"slots/digits": b'{"active":2}'})
    path.write_bytes(old)  # somebody restored a backup of one file
    with MirroredStore(path) as store:
        assert store.get("slots/digits") == b'{"active":2}'
        assert "older than its mirror" in (store.restored or "")


def test_a_mirror_that_a_crash_left_behind_follows(path: Path) -> None:
    behind = mirror(path).read_bytes()
    with MirroredStore(path) as store:
        store.write({"slots/digits": b"newer"})
    mirror(path).write_bytes(behind)
    with MirroredStore(path) as store:
        assert store.get("slots/digits") == b"newer"
        assert store.restored is None
    remove(path)
    with MirroredStore(path) as store:
        assert store.get("slots/digits") == b"newer"


def test_the_damaged_file_is_kept_for_a_person(path: Path) -> None:
    damage(path)
    harmed = path.read_bytes()
    MirroredStore(path).close()
    assert path.with_name("state.db.damaged").read_bytes() == harmed


def test_only_the_owner_may_read(path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0
    assert mirror(path).stat().st_mode & 0o077 == 0


def test_used_after_close(path: Path) -> None:
    store = MirroredStore(path)
    store.close()
    with pytest.raises(StoreClosedError):
        store.write({"a": b"b"})
    with MirroredStore(path) as again:
        assert again.get("a") is None


@pytest.mark.parametrize("harm", [remove, damage, empty])
def test_on_a_disk_that_refuses_the_mirror_is_held_in_memory_until_a_write_repairs_both(
    path: Path, harm: Harm, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm(path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(mirrored_module, "move_durable", refuse)
        store = MirroredStore(path)
        assert store.values() == VALUES
        assert "its mirror is used, and it can't be made again" in str(problem(store))
        with pytest.raises(OSError, match="No space left"):
            store.write({"more": b"1"})
        assert store.values() == VALUES
    store.write({"more": b"1"})
    assert problem(store) is None
    store.close()
    with pytest.raises(StoreClosedError):
        store.write({"more": b"2"})
    mirror(path).unlink()
    with MirroredStore(path) as again:
        assert again.values() == {**VALUES, "more": b"1"}


def test_on_a_disk_that_refuses_a_good_database_is_enough(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror(path).unlink()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(mirrored_module, "write_durable", refuse)
        store = MirroredStore(path)
        assert store.values() == VALUES
        assert (
            store.problem
            == f"{mirror(path).name} can't be written: [Errno {errno.EROFS}] Read-only file system"
        )
    store.write({"more": b"1"})
    assert problem(store) is None
    store.close()
    path.unlink()
    with MirroredStore(path) as again:
        assert again.values() == {**VALUES, "more": b"1"}


def test_a_mirror_whose_blocks_are_lost_is_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = Path.read_bytes

    def fail(self: Path) -> bytes:
        if self == mirror(path):
            raise OSError(errno.EIO, "Input/output error")
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", fail)
    with MirroredStore(path) as store:
        assert store.values() == VALUES
        assert store.restored == "state.db.mirror was unreadable (Input/output error); written again"
