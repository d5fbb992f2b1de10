"""Patches of files whose differences are known: what comes out, how small they are, and that nothing is held in memory."""

import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import zstandard

from agent.delta.align import align, cheapest_path
from agent.delta.apply import apply_patch
from agent.delta.errors import NoPatchError, PatchError
from agent.delta.format import CHUNK_BYTES, Coding, write_varint
from agent.delta.lanes import PIECE_BYTES, add_bytes, add_words
from agent.delta.make import make_patch
from agent.protocol.patches import PatchMethod
from tests.unit.delta.patches import applied, floats, nudged, pieces, reader, weights

INT8 = weights(200_000)
SUBTRACTING = (PatchMethod.SUB8, PatchMethod.SUB32)


def size_of(base: bytes, target: bytes, method: PatchMethod) -> int:
    patch = make_patch(base, target, method)
    assert applied(patch, base, method, len(target)) == target
    return len(patch)


@pytest.mark.parametrize("method", SUBTRACTING)
def test_the_same_file_is_a_patch_of_a_few_bytes(method: PatchMethod) -> None:
    assert size_of(INT8, INT8, method) < 30


@pytest.mark.parametrize("method", SUBTRACTING)
def test_what_grew_by_three_bytes_in_front_is_found_behind_them(method: PatchMethod) -> None:
    assert size_of(INT8, INT8[:100] + b"new" + INT8[100:], method) < 60


def test_a_tenth_that_is_new_costs_a_tenth() -> None:
    new = weights(20_000, seed=9)
    assert size_of(INT8, INT8[:-20_000] + new, PatchMethod.SUB8) < 20_100


def test_sparse_steps_of_quantised_weights_cost_what_they_tell() -> None:
    target = nudged(INT8, 0.05)
    entropy = 0.05 * np.log2(1 / 0.05) + 0.95 * np.log2(1 / 0.95) + 0.05  # which bytes, and the sign of each
    assert size_of(INT8, target, PatchMethod.SUB8) < 1.05 * entropy / 8 * len(target) + 300


def test_floats_off_their_word_boundary_are_subtracted_as_words() -> None:
    base = floats(100_000)
    noise = np.random.default_rng(5).normal(0, 1e-3, len(base)).astype(np.float32)
    target = b"abc" + (base * (1 + noise)).astype(np.float32).tobytes()
    source = b"a" + base.tobytes()
    assert size_of(source, target, PatchMethod.SUB32) < 0.5 * len(target)
    assert size_of(source, target, PatchMethod.SUB8) > 0.52 * len(target)


def test_parts_that_changed_places_are_found() -> None:
    target = INT8[120_000:] + INT8[:120_000]
    assert size_of(INT8, target, PatchMethod.SUB8) < 100


def test_a_file_of_many_chunks_is_made_from_any_place_on() -> None:
    base = weights(3 * CHUNK_BYTES)
    target = nudged(base, 0.3)
    patch = make_patch(base, target, PatchMethod.SUB8)
    for start in (
        0,
        1,
        PIECE_BYTES,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 7,
        len(target) - 1,
        len(target),
    ):
        assert applied(patch, base, PatchMethod.SUB8, len(target), start) == target[start:], start


def test_what_was_made_already_is_not_read_from_the_base_again() -> None:
    base = weights(3 * CHUNK_BYTES)
    patch = make_patch(base, nudged(base, 0.3), PatchMethod.SUB8)
    seen: list[int] = []

    def read_at(offset: int, length: int) -> bytes:
        seen.append(offset)
        return base[offset : offset + length]

    list(apply_patch(io.BytesIO(patch), read_at, PatchMethod.SUB8, size=len(base), start=2 * CHUNK_BYTES))
    assert min(seen) >= 2 * CHUNK_BYTES - PIECE_BYTES


def test_a_whole_file_is_an_ordinary_zstd_frame() -> None:
    patch = make_patch(b"", INT8, PatchMethod.ZSTD)
    assert zstandard.ZstdDecompressor().decompress(patch) == INT8
    assert applied(patch, b"", PatchMethod.ZSTD, len(INT8), 70_000) == INT8[70_000:]


def test_pieces_are_small() -> None:
    target = INT8[:50] + INT8
    for method in PatchMethod:
        assert (
            max(map(len, pieces(make_patch(INT8, target, method), INT8, method, len(target)))) <= PIECE_BYTES
        )


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 63, 64, 65])
def test_tiny_files(size: int) -> None:
    for method in SUBTRACTING:
        for base in (b"", b"x", INT8[:size], INT8[1 : size + 5]):
            size_of(base, INT8[:size], method)


def test_a_file_that_is_too_large_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.delta.make.MAX_MADE_BYTES", 1000)
    with pytest.raises(NoPatchError, match="a file of 1001 bytes; at most 1000"):
        make_patch(b"", bytes(1001), PatchMethod.ZSTD)


def test_sums_of_lanes_are_those_of_numpy() -> None:
    random = np.random.default_rng(3)
    first, second = random.integers(0, 256, (2, 4096), np.uint8)
    assert add_bytes(first.tobytes(), second.tobytes()) == (first + second).tobytes()
    zigzag = second.view("<u4")
    signed = (zigzag >> 1) ^ -(zigzag & 1).astype(np.uint32)
    assert add_words(first.tobytes(), second.tobytes()) == (first.view("<u4") + signed).tobytes()


def test_the_cheapest_path_is_the_cheapest() -> None:
    costs = np.random.default_rng(4).random((6, 3)).astype(np.float32)

    def price(path: tuple[int, ...]) -> float:
        moves = sum(a != b for a, b in pairwise(path))
        return float(sum(costs[step, state] for step, state in enumerate(path))) + 0.3 * moves

    paths = [tuple(row) for row in np.ndindex(3, 3, 3, 3, 3, 3)]
    assert price(tuple(cheapest_path(costs, 0.3).tolist())) == pytest.approx(min(map(price, paths)))


def test_segments_cover_the_target_within_the_base() -> None:
    target = np.frombuffer(INT8[500:9000] + INT8[:3000] + b"?" * 700, np.uint8)
    base = np.frombuffer(INT8[:10_000], np.uint8)
    segments = align(base, target)
    assert [each.start for each in segments] == [0, *(each.end for each in segments[:-1])]
    assert segments[-1].end == len(target)
    for start, end, shift in segments:
        assert shift is None or (start + shift >= 0 and end + shift <= len(base))


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        (b"", "cut short"),
        (b"BSDIFF40" + bytes(24), "this is no patch"),
        (b"EWD\7", "the patch's method is 7"),
        (b"EWD\x20\0\1", "is sub32, not sub8"),
        (b"EWD\x08\1\5", "makes 5 bytes, not the 9"),
        (b"EWD\x08\1\x09", "cut short"),
        (b"EWD\x08\1\x09\0", "0 bytes of operations"),
        (b"EWD\x08\1\x09\1\x09\2", "an operation makes nothing"),
        (b"EWD\x08\1\x09\2\x11\x1b\0", "reads beyond its base"),
        (b"EWD\x08\1\x09\2\x11\x80\x01", "makes more than the 9 bytes"),
        (b"EWD\x08\1\x09\1\x09\x1d\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "a number has no end"),
        (b"EWD\x08\1\x09\1\x09\x1d\5\0\0", "cut short"),
    ],
)
def test_what_is_no_patch_is_refused_in_words(patch: bytes, words: str) -> None:
    with pytest.raises(PatchError, match=words):
        applied(patch, b"x", PatchMethod.SUB8, 9)


def test_a_frame_that_swells_is_stopped_where_its_bytes_should_end() -> None:
    form = zstandard.FORMAT_ZSTD1_MAGICLESS
    parameters = zstandard.ZstdCompressionParameters.from_level(3, format=form, window_log=27)
    bomb = zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(50_000_000))
    operations = b"\1\x09" + write_varint(9 * 3 + 2)
    body = b"\0" + write_varint(len(bomb) * 8 + Coding.ZSTD) + bomb
    patch = b"EWD\x08\1\x09" + operations + write_varint(len(body)) + body
    with pytest.raises(PatchError, match="malformed"):
        applied(patch, b"x", PatchMethod.SUB8, 9)


def literal_chunk(size: int, stream: bytes) -> bytes:
    """A patch of one chunk with ``size`` new bytes."""
    operations = write_varint(size * 3 + 2)
    stored = write_varint(len(operations)) + write_varint(len(operations) * 8 + Coding.STORED) + operations
    body = b"\0" + stream
    return b"EWD\x08\1" + write_varint(size) + stored + write_varint(len(body)) + body


def test_a_frame_that_holds_more_or_less_than_it_should_is_refused() -> None:
    form = zstandard.FORMAT_ZSTD1_MAGICLESS
    parameters = zstandard.ZstdCompressionParameters.from_level(3, format=form)
    for length in (8, 10):
        frame = zstandard.ZstdCompressor(compression_params=parameters).compress(INT8[:length])
        patch = literal_chunk(9, write_varint(len(frame) * 8 + Coding.ZSTD) + frame)
        with pytest.raises(PatchError, match="does not hold the 9 bytes"):
            applied(patch, b"x", PatchMethod.SUB8, 9)


def test_a_chunk_that_carries_more_than_a_device_holds_is_refused() -> None:
    for size in (CHUNK_BYTES, CHUNK_BYTES + 1):
        patch = literal_chunk(size, b"\0")
        if size <= CHUNK_BYTES:
            assert applied(patch, b"x", PatchMethod.SUB8, size) == bytes(size)
        else:
            with pytest.raises(PatchError, match=f"a chunk carries {size} bytes"):
                applied(patch, b"x", PatchMethod.SUB8, size)


def test_a_base_that_is_another_file_does_not_pass_for_the_right_one() -> None:
    patch = make_patch(INT8, INT8, PatchMethod.SUB8)
    with pytest.raises(PatchError, match="not the file the patch was made from"):
        list(pieces(patch, INT8[:1000], PatchMethod.SUB8, len(INT8)))


def test_a_patch_without_its_base_is_refused() -> None:
    with pytest.raises(PatchError, match="needs its base"):
        apply_patch(io.BytesIO(b""), None, PatchMethod.SUB8, size=1)


def test_a_patch_that_goes_on_is_refused() -> None:
    patch = make_patch(INT8, INT8, PatchMethod.SUB8) + b"x"
    with pytest.raises(PatchError, match="goes on behind its end"):
        applied(patch, INT8, PatchMethod.SUB8, len(INT8))


def test_a_whole_file_of_another_size_is_refused() -> None:
    patch = make_patch(b"", INT8, PatchMethod.ZSTD)
    with pytest.raises(PatchError, match="more than the 100 bytes"):
        applied(patch, b"", PatchMethod.ZSTD, 100)
    with pytest.raises(PatchError, match=f"makes {len(INT8)} bytes, not the {len(INT8) + 1}"):
        applied(patch, b"", PatchMethod.ZSTD, len(INT8) + 1)
    with pytest.raises(PatchError, match="malformed"):
        applied(b"no frame at all", b"", PatchMethod.ZSTD, 100)


def test_applying_needs_no_numpy() -> None:
    code = "import agent.delta.apply, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert reader(b"abc")(1, 5) == b"bc"
