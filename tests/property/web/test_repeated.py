"""A connection that remembers heads says and hears exactly what one says and hears that parses each of them."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.web.connection import HttpConnection, Peer
from agent.web.messages import Request
from agent.web.repeated import Head, RepeatedHeads
from tests.property.runner.test_parsing import Recorder, Wire, pieces_of

HEADS = (
    b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n",
    b"POST /b?q=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\nX: y\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    b"GET /c HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\r\n\r\nGET /d HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /e HTTP/1.1\nHost: localhost\nContent-Length: 8\n\n",
    b"POST /f HTTP/1.1\r\nHost: localhost\r\nX: 1\r\nX: 2\r\nContent-Length: 5\r\n\r\n",
    b"POST /g HTTP/1.1\r\nHost: localhost\r\nX: 1\r\n more\r\nContent-Length: 5\r\n\r\n",
    b"POST /h HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    b"POST /i HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /j HTTP/1.0\r\nHost: localhost\r\n\r\n",
    b"GET /k HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"POST /l HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /m HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
)
BODIES = (
    b"hello",
    b"\r\n\r\nhello wor",
    b"GET / HTTP/1.1\r\n\r\n"[:12],
    b"5\r\nhello\r\n0\r\n\r\n",
    b"",
    b"\r\n\r\n12345678",
)


class Forgetful(RepeatedHeads):
    """Every head is new to it."""

    def find(self, data: bytes) -> tuple[Head, int] | None:
        return None


class Remembering(RepeatedHeads):
    """Counts what it knew."""

    found = 0

    def find(self, data: bytes) -> tuple[Head, int] | None:
        known = super().find(data)
        Remembering.found += known is not None
        return known


def heard(pieces: list[bytes], heads: RepeatedHeads) -> tuple[list[Request], list[bytes], int, bool]:
    async def talk() -> tuple[Recorder, Wire]:
        recorder, wire = Recorder(), Wire()
        connection = HttpConnection(recorder, Peer(over_tcp=True))
        wire.get_extra_info = lambda *_: ("127.0.0.1", 80)  # type: ignore[method-assign]
        connection._heads = heads
        connection.connection_made(wire)
        for piece in pieces:
            connection.data_received(piece)
        connection.connection_lost(None)
        return recorder, wire

    recorder, wire = asyncio.run(talk())
    requests = [request._replace(arrived=0.0) for request in recorder.requests]
    return requests, wire.written, recorder.refused, wire.ended


@settings(max_examples=400)
@given(
    parts=st.lists(st.tuples(st.sampled_from(HEADS), st.sampled_from(BODIES)), min_size=1, max_size=8),
    repeat=st.integers(1, 3),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
    whole=st.booleans(),
)
def test_remembering_changes_nothing(
    parts: list[tuple[bytes, bytes]], repeat: int, cuts: list[int], *, whole: bool
) -> None:
    sent = parts * repeat
    pieces = (
        [head + body for head, body in sent] if whole else pieces_of(b"".join(h + b for h, b in sent), cuts)
    )
    assert heard(pieces, RepeatedHeads()) == heard(pieces, Forgetful())


def test_a_head_that_comes_again_is_not_parsed_again_and_one_that_could_mean_something_else_is() -> None:
    for head in HEADS:
        length = int(head.split(b"Content-Length: ")[1].split()[0]) if b"Content-Length: " in head else 0
        Remembering.found = 0
        pieces = [head + b"x" * min(length, 1000)] * 3
        heard(pieces, Remembering())
        plain = head in HEADS[:4]
        assert (Remembering.found > 0) == plain or b"HTTP/1.0" in head or b"Connection: close" in head, head


def test_only_so_many_are_remembered() -> None:
    heads = RepeatedHeads()
    for number in range(100):
        raw = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number
        heads.remember(raw, method=b"GET", path=b"/", headers={b"host": b"localhost"}, keep_alive=True)
        assert heads.find(raw) is not None
    assert len(heads._known) <= 8
    long = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % (b"x" * 3000)
    heads.remember(long, method=b"GET", path=b"/", headers={b"host": b"x" * 3000}, keep_alive=True)
    assert heads.find(long) is None


def test_a_known_head_waits_for_its_whole_body_in_whatever_pieces() -> None:
    head = HEADS[1]
    for size in range(1, 14):
        body = b"\r\n\r\n01234567"
        pieces = [
            head + body,
            head,
            *(body[at : at + size] for at in range(0, len(body), size)),
            head + body[:-1],
            body[-1:],
        ]
        requests, written, refused, _ = heard(pieces, Remembering())
        assert [request.body for request in requests] == [body] * 3
        assert (len(written), refused) == (3, 0)
