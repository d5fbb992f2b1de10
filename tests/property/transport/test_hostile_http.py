"""HTTP answers that are cut, wrong or hostile: the bytes arrive, or the reason is clear; never other bytes, never too many."""

import hashlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.transport.content_range import parse_content_range
from agent.transport.http_child import fetch, retry_after
from agent.transport.http_wire import PIECE_BYTES, Ended, Failed, FromChild, Order, Piece
from tests.support.raw_http import Answer, RawServer

DATA = random.Random(3).randbytes(3000)
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'
OK = "HTTP/1.1 200 OK\r\n"
PART = "HTTP/1.1 206 Partial Content\r\n"


def order(url: str, *, offset: int = 0, size: int = len(DATA), etag: str | None = ETAG) -> Order:
    return Order(
        url=url,
        etag=etag,
        offset=offset,
        size=size,
        authority=None,
        connect_seconds=2.0,
        read_seconds=2.0,
        now=0.0,
    )


def said(what: Order) -> tuple[bytes, FromChild]:
    """The bytes that came, and the last word."""
    messages: list[FromChild] = []
    fetch(what, messages.append)
    *pieces, last = messages
    assert all(isinstance(piece, Piece) and 0 < len(piece.data) <= PIECE_BYTES for piece in pieces)
    assert isinstance(last, Ended | Failed)
    return b"".join(piece.data for piece in pieces if isinstance(piece, Piece)), last


def message(head: str, body: bytes = b"", **headers: Any) -> bytes:
    fields = {"Content_Length": len(body), "ETag": ETAG, "Connection": "close", **headers}
    lines = "".join(
        f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items() if value is not None
    )
    return f"{head}{lines}\r\n".encode("latin-1") + body


def honest(cuts: list[int]) -> Answer:
    """Ranges done well, each connection cut after so many bytes of its body, until no cut is left."""

    def answer(headers: dict[str, str]) -> bytes:
        begin = int(headers["range"].removeprefix("bytes=").removesuffix("-")) if "range" in headers else 0
        head = PART if "range" in headers else OK
        shown = {"Content_Range": f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}"} if begin else {}
        whole = message(head, DATA[begin:], **shown)
        body_at = whole.index(b"\r\n\r\n") + 4
        return whole[: body_at + cuts.pop(0)] if cuts else whole

    return answer


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, len(DATA)), max_size=5))
def test_cut_anywhere_and_taken_up_again_the_bytes_are_the_same(cuts: list[int]) -> None:
    with RawServer(honest(list(cuts))) as server:
        got = b""
        for _ in range(len(cuts) + 1):
            new, last = said(order(server.url, offset=len(got)))
            got += new
            assert DATA.startswith(got)
            if len(got) == len(DATA):
                break
            assert isinstance(last, Failed)
            assert last.kind == "no-answer"
    assert got == DATA
    assert all(request["accept-encoding"] == "identity" for request in server.requests)
    assert all(request.get("if-range") == ETAG for request in server.requests[1:] if "range" in request)


def test_a_server_without_ranges_is_read_past_what_is_here() -> None:
    with RawServer(lambda _: message(OK, DATA)) as server:
        got, last = said(order(server.url, offset=1234))
    assert (got, type(last)) == (DATA[1234:], Ended)
    assert isinstance(last, Ended)
    assert last.received >= len(DATA), "what came twice is counted"


HOSTILE = {
    "another range": (message(PART, DATA[:10], Content_Range=f"bytes 0-9/{len(DATA)}"), "refused", "it sent 'bytes 0-9"),
    "no range": (message(PART, DATA[5:]), "refused", "asked for bytes from 5 on, it sent ''"),
    "a range that contradicts itself": (
        message(PART, b"x", Content_Range="bytes 9-5/3000"), "refused", "it sent 'bytes 9-5/3000'"),
    "many ranges": (
        message(PART, b"--x--", Content_Type="multipart/byteranges; boundary=x"), "refused", "it sent ''"),
    "another total": (
        message(PART, DATA[5:], Content_Range=f"bytes 5-{len(DATA) - 1}/{len(DATA) + 7}"), "refused",
        f"{len(DATA) + 7} bytes there, {len(DATA)} were signed"),
    "another file": (message(OK, DATA, ETag='"other"'), "refused", 'there is another file: ETag "other"'),
    "too long": (message(OK, DATA + b"more"), "refused", f"{len(DATA) + 4} bytes there, {len(DATA)} were signed"),
    "too short": (message(OK, DATA[:-1]), "refused", f"{len(DATA) - 1} bytes there, {len(DATA)} were signed"),
    "endless": (
        message(OK, b"", Content_Length=None, Transfer_Encoding="chunked") + b"1000\r\n" + bytes(4096) + b"\r\n",
        "refused", "more than the 3000 bytes"),
    "encoded": (message(OK, DATA, Content_Encoding="gzip"), "refused", "encoded as 'gzip'"),
    "redirect": (message("HTTP/1.1 302 Found\r\n", Location="http://169.254.169.254/"), "refused", "not followed"),
    "416": (message("HTTP/1.1 416 No\r\n", Content_Range="bytes */5"), "refused", "416: asked for bytes from 5 on"),
    "no HTTP": (b"220 mail.example ESMTP\r\n\r\n", "refused", ""),
    "a head without end": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "refused", ""),
    "nothing": (b"", "no-answer", "disconnected"),
    "not found": (message("HTTP/1.1 404 Not Found\r\n", b'{"title":"Not found","detail":"no such"}'), "absent",
                  "404 Not found: no such"),
    "gone": (message("HTTP/1.1 410 Gone\r\n", b"\xff\x00"), "expired", "410 Gone"),
    "forbidden": (message("HTTP/1.1 403 Forbidden\r\n", b"{"), "expired", "403 Forbidden"),
    "failing": (message("HTTP/1.1 500 Oh\r\n", b"x" * 100_000), "refused", "500 Oh"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_is_named_and_nothing_of_it_is_taken(name: str) -> None:
    sent, kind, words = HOSTILE[name]
    with RawServer(lambda _: sent) as server:
        got, last = said(order(server.url, offset=5))
    assert isinstance(last, Failed)
    assert (last.kind, words in last.text) == (kind, True), last
    assert len(got) <= len(DATA) - 5


@settings(max_examples=20, deadline=None)
@given(junk=st.binary(max_size=300), with_head=st.booleans())
def test_whatever_comes_is_no_more_than_was_asked_for(*, junk: bytes, with_head: bool) -> None:
    sent = message(PART, junk, Content_Range=f"bytes 5-{len(DATA) - 1}/{len(DATA)}") if with_head else junk
    with RawServer(lambda _: sent) as server:
        got, last = said(order(server.url, offset=5))
    assert len(got) <= len(DATA) - 5
    assert isinstance(last, Failed)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        ("9" * 40, 999_999_999.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Wed, 31 Dec 1969 23:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("Thu, 99 Foo 99999 99:99:99 GMT", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, 100.0) == seconds


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_a_server_that_asks_for_time_is_heard(status: str) -> None:
    with RawServer(lambda _: message(f"HTTP/1.1 {status}\r\n", Retry_After="7")) as server:
        _, last = said(order(server.url))
    assert isinstance(last, Failed)
    assert (last.kind, last.seconds) == ("busy", 7.0)


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/x", "ftp://127.0.0.1/x", "http://", "https://[::1", "file:///etc/passwd", "\x00"],
)
def test_no_other_scheme_and_nothing_in_clear_over_a_network(url: str) -> None:
    got, last = said(order(url))
    assert isinstance(last, Failed)
    assert (got, last.kind) == (b"", "refused")


@given(st.text(max_size=60))
def test_content_range_is_read_or_not(value: str) -> None:
    found = parse_content_range(value)
    if found is not None:
        assert 0 <= found.begin < found.end <= found.total
