import hashlib
from pathlib import Path

import pytest

from agent.store.artifacts import ArtifactStore
from agent.store.errors import ArtifactError, HashMismatchError, QuotaExceededError

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
