from pathlib import Path

from agent.store.last_good import LastGood


def test_what_was_noted_is_read_by_the_next_start(tmp_path: Path) -> None:
    kept = LastGood(tmp_path / "last-good")
    assert kept.read() == {}
    kept.note("digits", b"release 1")
    kept.note("faces", b"release 7")
    kept.note("digits", b"release 2")
    assert LastGood(tmp_path / "last-good").read() == {"digits": b"release 2", "faces": b"release 7"}


def test_the_same_release_is_not_written_again(tmp_path: Path) -> None:
    LastGood(tmp_path).note("digits", b"release 1")
    (file,) = tmp_path.iterdir()
    before = file.stat().st_ino
    LastGood(tmp_path).note("digits", b"release 1")
    assert file.stat().st_ino == before
    LastGood(tmp_path).note("digits", b"release 2")
    assert file.stat().st_ino != before


def test_a_damaged_one_is_left_out_and_written_anew(tmp_path: Path) -> None:
    LastGood(tmp_path).note("digits", b"release 1")
    LastGood(tmp_path).note("faces", b"release 7")
    file = tmp_path / "digits.release"
    file.write_bytes(file.read_bytes()[:-1] + b"2")
    kept = LastGood(tmp_path)
    assert kept.read() == {"faces": b"release 7"}
    kept.note("digits", b"release 1")
    assert LastGood(tmp_path).read()["digits"] == b"release 1"
