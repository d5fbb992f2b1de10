import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.store import artifacts as artifacts_module
from agent.store.artifacts import ArtifactStore
from agent.store.errors import (
    ArtifactError,
    DiskFullError,
    HashMismatchError,
    MissingArtifactError,
    QuotaExceededError,
)
from agent.store.partial import hash_file

CONTENT = b"model bytes" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts", quota_bytes=30_000)


def offset(store: ArtifactStore, size: int) -> int:
    """Where a fetch of ``DIGEST`` would go on."""
    with store.partial(DIGEST, size) as partial:
        return partial.offset


def test_resumes_after_a_restart_where_it_stopped(store: ArtifactStore, tmp_path: Path) -> None:
    with store.partial(DIGEST, len(CONTENT)) as partial:
        partial.append(CONTENT[:4_000])
    again = ArtifactStore(tmp_path / "artifacts", quota_bytes=30_000).partial(DIGEST, len(CONTENT))
    assert again.offset == 4_000
    again.append(CONTENT[4_000:])
    path = again.finish()
    assert path == tmp_path / "artifacts" / "sha256" / DIGEST[:2] / DIGEST
    assert path.read_bytes() == CONTENT
    assert store.has(DIGEST)
    assert store.used_bytes() == len(CONTENT)


def test_wrong_bytes_are_refused_and_the_next_try_starts_anew(store: ArtifactStore) -> None:
    with store.partial(DIGEST, 5) as partial:
        partial.append(b"other")
        with pytest.raises(HashMismatchError, match=DIGEST):
            partial.finish()
    assert not store.has(DIGEST)
    assert offset(store, len(CONTENT)) == 0


def test_finishing_early_or_writing_too_much_is_refused(store: ArtifactStore) -> None:
    partial = store.partial(DIGEST, 10)
    partial.append(b"123")
    with pytest.raises(ArtifactError, match="3 of 10 bytes"):
        partial.finish()
    with pytest.raises(ArtifactError, match="beyond its size of 10"):
        partial.append(b"12345678")
    assert partial.offset == 3
    partial.discard()
    assert store.used_bytes() == 0


def test_one_digest_has_one_writer_at_a_time(store: ArtifactStore, tmp_path: Path) -> None:
    with store.partial(DIGEST, len(CONTENT)) as partial:
        partial.append(CONTENT[:4_000])
        for other in (store, ArtifactStore(tmp_path / "artifacts", quota_bytes=30_000)):
            with pytest.raises(ArtifactError, match="is being written already; one writer at a time"):
                other.partial(DIGEST, len(CONTENT))
        partial.append(CONTENT[4_000:])
        with store.partial(digest_of(b"other"), 5):  # of another digest there may be one
            partial.finish()
    assert store.verify(DIGEST)
    assert store.room().promised_bytes == 0
    store.partial(DIGEST, len(CONTENT)).discard()


def test_what_cant_be_opened_is_not_taken_for_open(store: ArtifactStore, tmp_path: Path) -> None:
    blocked = tmp_path / "artifacts" / "partial" / DIGEST
    blocked.mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(IsADirectoryError):
            store.partial(DIGEST, 10)
    blocked.rmdir()
    store.partial(DIGEST, 10).discard()


def test_a_partial_that_is_longer_than_the_artifact_starts_anew(store: ArtifactStore) -> None:
    with store.partial(DIGEST, 100) as partial:
        partial.append(b"x" * 100)
    assert offset(store, 50) == 0


def test_quota_counts_what_is_there_and_what_is_on_its_way(store: ArtifactStore) -> None:
    store.add(b"a" * 20_000)
    with pytest.raises(QuotaExceededError, match="11000 bytes do not fit, 20000 of the 30000"):
        store.partial(DIGEST, len(CONTENT))
    assert store.remove_unreferenced([]) == [hashlib.sha256(b"a" * 20_000).hexdigest()]
    with store.partial(DIGEST, 30_000) as partial:  # a resumed one is not counted twice
        partial.append(b"x" * 20_000)
    assert offset(store, 30_000) == 20_000


def test_removes_only_what_nobody_refers_to(store: ArtifactStore) -> None:
    kept, gone = store.add(b"kept"), store.add(b"gone")
    half = hashlib.sha256(b"half").hexdigest()
    with store.partial(half, 4) as partial:
        partial.append(b"ha")
    assert store.remove_unreferenced({kept}) == sorted([gone, half])
    assert store.has(kept)
    assert not store.has(gone)
    assert store.used_bytes() == 4


def test_verify_finds_bit_rot_and_removes_the_file(store: ArtifactStore) -> None:
    digest = store.add(b"good")
    assert store.verify(digest)
    path = store.path(digest)
    path.chmod(0o644)
    path.write_bytes(b"goof")
    assert not store.verify(digest)
    assert not store.has(digest)


def test_sweep_removes_strangers_and_leaves_artifacts(store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.add(b"good")
    with store.partial(DIGEST, 10) as partial:
        partial.append(b"12")
    stranger = tmp_path / "artifacts" / "partial" / "notes.txt"
    stranger.write_text("x")
    misplaced = store.path(digest).parent / DIGEST
    misplaced.write_text("x")
    assert set(store.sweep()) == ({stranger, misplaced} if DIGEST[:2] != digest[:2] else {stranger})
    assert store.has(digest)
    assert offset(store, 10) == 2


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_a_digest_that_is_none_is_refused(store: ArtifactStore, digest: str) -> None:
    with pytest.raises(ArtifactError, match="64 lower-case hexadecimal digits"):
        store.path(digest)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_is_reserved_is_not_collected_until_it_is_let_go(store: ArtifactStore) -> None:
    digest = store.add(b"base")
    with store.reserve({digest: 4}), store.reserve({digest: 4}):
        assert store.remove_unreferenced([]) == []
        store.remove(digest)
        assert store.has(digest)
    assert store.remove_unreferenced([]) == [digest]


def test_an_artifact_that_is_being_fetched_is_not_collected(store: ArtifactStore) -> None:
    with store.partial(DIGEST, len(CONTENT)) as partial:
        partial.append(CONTENT[:5_000])
        assert store.remove_unreferenced([]) == []
        partial.append(CONTENT[5_000:])
        partial.finish()
    assert store.remove_unreferenced([]) == [DIGEST]


def test_a_patch_its_base_and_its_result_are_reserved_together(store: ArtifactStore) -> None:
    base = store.add(b"b" * 12_000)
    patch, result = digest_of(b"patch"), digest_of(b"result")
    with store.reserve({base: 12_000, patch: 3_000, result: 12_000}):
        room = store.room()
        assert (room.used_bytes, room.promised_bytes, room.free_bytes) == (12_000, 15_000, 3_000)
        with pytest.raises(QuotaExceededError, match="3001 bytes do not fit, 27000 of the 30000"):
            store.partial(DIGEST, 3_001)
        store.partial(DIGEST, 3_000).discard()
        with store.partial(result, 12_000) as partial:  # within what is reserved
            partial.append(b"r" * 4_000)
            assert store.room().promised_bytes == 11_000
    assert store.room().free_bytes == 30_000 - 12_000 - 4_000
    with (
        pytest.raises(QuotaExceededError, match="2 artifacts: 20000 bytes do not fit, 16000"),
        store.reserve({DIGEST: 8_000, patch: 12_000}),
    ):
        pass


def test_two_fetches_at_once_are_not_promised_the_same_room(store: ArtifactStore) -> None:
    with store.partial(DIGEST, 20_000), pytest.raises(QuotaExceededError, match="20000 of the 30000"):
        store.partial(digest_of(b"other"), 11_000)
    store.partial(digest_of(b"other"), 11_000).discard()


def test_what_is_here_needs_no_room_even_where_the_quota_was_lowered(tmp_path: Path) -> None:
    digest = ArtifactStore(tmp_path, quota_bytes=100).add(b"x" * 80)
    store = ArtifactStore(tmp_path, quota_bytes=10)
    with store.reserve({digest: 80}):
        assert store.room().free_bytes == 0
    with pytest.raises(QuotaExceededError):
        store.partial(DIGEST, 1)


def test_a_disk_with_less_room_than_the_quota_is_said_before_a_byte_is_fetched(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts_module, "_disk_free", lambda _folder: 9_999)
    with pytest.raises(DiskFullError, match="10000 bytes are still to come, 9999 are free"):
        store.partial(DIGEST, 10_000)
    store.partial(DIGEST, 9_999).discard()


def test_a_reservation_ends_with_an_error_too(store: ArtifactStore) -> None:
    partial = store.partial(DIGEST, 5)
    partial.append(b"other")
    with pytest.raises(HashMismatchError):
        partial.finish()
    partial = store.partial(DIGEST, 5)
    partial.close()
    partial.close()
    assert store.room().promised_bytes == 0


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed from now on."""
    hashed: list[str] = []

    def hash_and_count(path: Path) -> str:
        hashed.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(artifacts_module, "hash_file", hash_and_count)
    return hashed


def test_always_hashes_before_each_load(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.add(b"good")
    hashed = counting(monkeypatch)
    assert store.intact(digest)
    assert store.intact(digest)
    assert hashed == [digest, digest]


def overwrite(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"gooe")


def overwrite_secretly(path: Path) -> None:
    """Same size, and the time of the last write set back; the time of the change can't be."""
    before = path.stat()
    overwrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"gooe")
    other.replace(path)


@pytest.mark.parametrize("harm", [overwrite, overwrite_secretly, replace_file])
def test_changed_hashes_once_and_again_after_any_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    digest = ArtifactStore(tmp_path, quota_bytes=100).add(b"good")
    store = ArtifactStore(tmp_path, quota_bytes=100, rehash="changed")
    hashed = counting(monkeypatch)
    assert store.intact(digest)
    assert store.intact(digest)
    assert hashed == [digest], "once after a start"
    harm(store.path(digest))
    assert not store.intact(digest)
    assert not store.has(digest)
    assert not store.intact(digest)


def test_reading_gives_the_bytes_that_were_checked_or_none(store: ArtifactStore) -> None:
    digest = store.add(b"good")
    assert store.read(digest) == b"good"
    overwrite(store.path(digest))
    with pytest.raises(MissingArtifactError, match=f"{digest}: missing or damaged"):
        store.read(digest)
    assert not store.has(digest)
    with pytest.raises(MissingArtifactError):
        store.read(digest)


def test_a_file_whose_blocks_are_lost_is_damaged_one_that_may_not_be_read_is_an_error(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.add(b"good")

    def fail(number: int) -> None:
        def hash_file(path: Path) -> str:
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(artifacts_module, "hash_file", hash_file)

    fail(errno.EMFILE)
    with pytest.raises(OSError, match="Too many open files"):
        store.verify(digest)
    assert store.has(digest)
    fail(errno.EIO)
    assert not store.verify(digest)
    assert not store.has(digest)
