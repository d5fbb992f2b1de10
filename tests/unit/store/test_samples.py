"""The ring of samples: bounded in every way that it says, and it survives what a disk does."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol.samples import KeptSample, SampleTensor
from agent.store.samples import ALIKE, OVERHEAD_BYTES, SampleRing

DAY = 86_400.0
NUMBERS = itertools.count()


def sample(
    *,
    score: float = 1.0,
    likeness: str | None = None,
    time: float = 0.0,
    size: int = 10,
    model: str = "digits",
) -> KeptSample:
    number = next(NUMBERS)
    return KeptSample(
        id=f"{number:032x}",
        model=model,
        release=1,
        deployment="d-1",
        artifact="1" * 64,
        time=time,
        why=("low-confidence",),
        score=score,
        likeness=likeness or f"{number:x}",
        inputs=(SampleTensor(name="x", datatype="UINT8", shape=(1, size), data=bytes(size)),),
        outputs=(),
    )


def ring(
    folder: Path, *, size: int = 10**6, count: int = 10, days: float = 30.0, daily: int = 10**9
) -> SampleRing:
    return SampleRing(
        folder / "samples", maximum_bytes=size, maximum_count=count, days=days, written_bytes_per_day=daily
    )


def ids(kept: SampleRing) -> set[str]:
    return {entry.id for entry in kept.entries()}


def files(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "samples").glob("*.sample")}


def test_a_sample_comes_back_whole_also_after_a_restart(tmp_path: Path) -> None:
    first, given = ring(tmp_path), sample()
    assert first.add(given, 1.0)
    again = ring(tmp_path)
    again.load(1.0)
    assert again.read(given.id) == given
    assert (tmp_path / "samples").stat().st_mode & 0o777 == 0o700
    assert next((tmp_path / "samples").iterdir()).stat().st_mode & 0o777 == 0o600


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    ring(tmp_path).load(0.0)
    assert list(tmp_path.iterdir()) == []


def test_one_stuck_camera_does_not_push_out_everything_else(tmp_path: Path) -> None:
    kept = ring(tmp_path)
    others = [sample(score=0.1) for _ in range(5)]
    for each in others:
        assert kept.add(each, 0.0)
    for _ in range(50):
        kept.add(sample(score=3.0, likeness="stuck"), 0.0)
    assert ids(kept) >= {each.id for each in others}
    assert sum(entry.likeness == "stuck" for entry in kept.entries()) == ALIKE


def test_over_the_bound_the_least_informative_goes(tmp_path: Path) -> None:
    kept = ring(tmp_path, count=3)
    low, middle, high = (sample(score=score) for score in (1.0, 2.0, 3.0))
    for each in (middle, low, high):
        kept.add(each, 0.0)
    assert kept.add(sample(score=2.5), 0.0)
    assert low.id not in ids(kept)
    assert not kept.add(sample(score=1.5), 0.0)
    assert {middle.id, high.id} < ids(kept)
    assert files(tmp_path) == ids(kept)


def test_bytes_are_a_bound_too(tmp_path: Path) -> None:
    kept = ring(tmp_path, size=3000, count=100)
    for score in range(20):
        kept.add(sample(score=float(score + 1), size=500), 0.0)
    assert kept.size <= 3000
    assert sum(path.stat().st_size for path in (tmp_path / "samples").iterdir()) == kept.size


def test_flash_is_written_so_much_a_day_and_no_more_also_over_restarts(tmp_path: Path) -> None:
    each = len(_encoded(sample(size=100))) + OVERHEAD_BYTES
    kept = ring(tmp_path, daily=3 * each + 50)
    assert [kept.add(sample(size=100, time=10.0), 10.0) for _ in range(4)] == [True, True, True, False]
    again = ring(tmp_path, daily=3 * each + 50)
    again.load(20.0)
    assert not again.add(sample(size=100, time=20.0), 20.0)
    assert again.add(sample(size=100, time=DAY + 11), DAY + 11)


def _encoded(kept: KeptSample) -> bytes:
    import msgspec

    return msgspec.msgpack.encode(kept)


def test_old_ones_are_deleted_and_a_clock_that_was_set_back_deletes_nothing(tmp_path: Path) -> None:
    kept = ring(tmp_path, days=1.0)
    old, new = sample(time=0.0), sample(time=DAY)
    kept.add(old, 0.0)
    kept.add(new, DAY)
    assert kept.expire(DAY + 1.0) == 1
    assert ids(kept) == {new.id} == files(tmp_path)
    assert kept.expire(-5 * DAY) == 0


def test_clear_leaves_no_file(tmp_path: Path) -> None:
    kept = ring(tmp_path)
    for _ in range(3):
        kept.add(sample(), 0.0)
    assert kept.clear() == 3
    assert files(tmp_path) == set()
    assert kept.size == 0


def test_a_damaged_file_is_counted_and_gone(tmp_path: Path) -> None:
    kept, given = ring(tmp_path), sample()
    kept.add(given, 0.0)
    path = tmp_path / "samples" / f"{given.id}.sample"
    path.write_bytes(b"\x00not a sample")
    assert kept.read(given.id) is None
    assert not path.exists()
    path.write_bytes(b"\xc1")
    (tmp_path / "samples" / "note.txt").write_text("somebody's own")
    again = ring(tmp_path)
    again.load(0.0)
    assert again.unreadable == 1
    assert ids(again) == set()
    assert (tmp_path / "samples" / "note.txt").exists()


def test_a_disk_that_refuses_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, given = ring(tmp_path), sample()
    kept.add(given, 0.0)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.store.samples.write_durable", full)
    with pytest.raises(OSError, match="No space"):
        kept.add(sample(), 0.0)
    assert ids(kept) == {given.id}


@settings(deadline=None)  # files are synced
@given(
    st.lists(
        st.tuples(st.floats(0.1, 5.0), st.sampled_from(["a", "b", "c", "d", "e"]), st.integers(1, 400)),
        max_size=25,
    ),
    st.integers(1, 8),
    st.integers(300, 3000),
)
def test_whatever_comes_the_bounds_hold(
    tmp_path_factory: pytest.TempPathFactory, given: list[tuple[float, str, int]], count: int, size: int
) -> None:
    folder = tmp_path_factory.mktemp("ring")
    kept = ring(folder, count=count, size=size)
    for time, (score, likeness, length) in enumerate(given):
        kept.add(sample(score=score, likeness=likeness, size=length, time=float(time)), float(time))
        entries = kept.entries()
        assert len(entries) <= count
        assert kept.size <= size
        for name in "abcde":
            assert sum(entry.likeness == name for entry in entries) <= ALIKE
    assert files(folder) == ids(kept) if given and (folder / "samples").exists() else True
