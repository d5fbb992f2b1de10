import hashlib
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.store.artifacts import ArtifactStore
from agent.store.errors import HashMismatchError


@settings(max_examples=60, deadline=None)
@given(
    content=st.binary(min_size=1, max_size=5_000),
    cuts=st.lists(st.tuples(st.integers(1, 900), st.booleans()), max_size=30),
    flip=st.one_of(st.none(), st.integers(0, 4_999)),
)
def test_however_a_transfer_is_cut_only_the_right_bytes_get_in(
    content: bytes, cuts: list[tuple[int, bool]], flip: int | None
) -> None:
    """Pieces of any size, the store reopened between any two, one bit perhaps wrong."""
    digest = hashlib.sha256(content).hexdigest()
    sent = bytearray(content)
    if flip is not None:
        sent[flip % len(content)] ^= 1
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        partial = ArtifactStore(root, quota_bytes=10_000).partial(digest, len(content))
        for length, reopen in [*cuts, (len(content), False)]:
            partial.append(bytes(sent[partial.offset : partial.offset + length]))
            if reopen:
                before = partial.offset
                partial.close()
                partial = ArtifactStore(root, quota_bytes=10_000).partial(digest, len(content))
                assert partial.offset == before
        store = ArtifactStore(root, quota_bytes=10_000)
        if flip is None:
            assert partial.finish().read_bytes() == content
            assert store.verify(digest)
        else:
            try:
                partial.finish()
            except HashMismatchError:
                assert not store.has(digest)
                assert store.used_bytes() == 0
            else:
                raise AssertionError("wrong bytes were taken")
