import gzip
import tracemalloc
import zlib

import pytest

from agent.runner.compression import compress, inflate, wanted_encoding
from agent.runner.errors import RequestError

PLAIN = b"a request " * 50


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(PLAIN, mtime=0), b"gzip"),
        (gzip.compress(PLAIN, mtime=0), b" GZIP "),
        (gzip.compress(PLAIN, mtime=0), b"x-gzip"),
        (zlib.compress(PLAIN), b"deflate"),
        (PLAIN, b"identity"),
    ],
)
def test_what_was_compressed_comes_back(body: bytes, encoding: bytes) -> None:
    assert inflate(body, encoding, len(PLAIN)) == PLAIN


@pytest.mark.parametrize(
    ("body", "encoding", "status", "told"),
    [
        (PLAIN, b"br", 415, "'br' is not supported; allowed: gzip, deflate, identity"),
        (gzip.compress(PLAIN, mtime=0), b"gzip, gzip", 415, "'gzip, gzip' is not supported"),
        (PLAIN, b"gzip", 400, "body: not gzip"),
        (zlib.compress(PLAIN), b"gzip", 400, "body: not gzip"),
        (gzip.compress(PLAIN, mtime=0), b"deflate", 400, "body: not deflate"),
        (gzip.compress(PLAIN, mtime=0)[:-1], b"gzip", 400, "ends in the middle"),
        (b"", b"gzip", 400, "ends in the middle"),
        (gzip.compress(PLAIN, mtime=0) * 2, b"gzip", 400, "bytes follow the gzip data"),
        (zlib.compress(PLAIN) + b"x", b"deflate", 400, "1 bytes follow the deflate data"),
        (
            gzip.compress(PLAIN + b"x", mtime=0),
            b"gzip",
            413,
            "more than 500 bytes when decompressed, at most 500",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, encoding: bytes, status: int, told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        inflate(body, encoding, len(PLAIN))
    assert caught.value.status == status


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_a_bomb_is_refused_before_it_has_grown(encoding: bytes) -> None:
    bomb = b"".join(compress([bytes(1 << 20)] * 64, encoding))
    assert len(bomb) < 400_000
    tracemalloc.start()
    with pytest.raises(RequestError) as caught:
        inflate(bomb, encoding, 100_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.status == 413
    assert peak < 1_500_000


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        (b"gzip", b"gzip"),
        (b"Deflate", b"deflate"),
        (b"gzip;q=0.5", b"gzip"),
        (b"gzip, identity", b"gzip"),
        (b"gzip, *;q=0", b"gzip"),
        (b"gzip;q=0", None),
        (b"gzip;q=0.0", None),
        (b"gzip, deflate", None),
        (b"gzip, deflate, br, zstd", None),
        (b"br", None),
        (b"*", None),
        (b"identity", None),
        (b"", None),
    ],
)
def test_an_answer_is_compressed_for_who_asks_for_one_coding(accept: bytes, encoding: bytes | None) -> None:
    assert wanted_encoding(accept) == encoding


def test_an_answers_parts_become_one_stream() -> None:
    assert gzip.decompress(b"".join(compress([b"head", b"", b"tail"], b"gzip"))) == b"headtail"
    assert zlib.decompress(b"".join(compress([b"head", b"", b"tail"], b"deflate"))) == b"headtail"
