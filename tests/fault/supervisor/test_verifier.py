"""The verifier may hang, die or lie: that is a refusal with its reason, and never more."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.protocol.verification import FetchedMetadata, VerifyRequest, VerifyResult
from agent.supervisor.verifier import verify
from tests.support.own_children import own_children

_PEER = """
import os, signal, socket, sys, time
from agent.protocol.codec import FrameDecoder, decode_msgpack, frame
from agent.protocol.verification import FetchedMetadata, FetchMetadata, ToVerifier, VerifyRequest, VerifyResult
from agent.protocol.state import Reason

fault, channel = sys.argv[1], socket.socket(fileno=int(sys.argv[3]))
decoder, frames = FrameDecoder(), []

def receive():
    while not frames:
        data = channel.recv(65536)
        if not data:
            sys.exit(0)
        frames.extend(decoder.feed(data))
    return decode_msgpack(frames.pop(0), ToVerifier, limit=8 << 20)

def ask(name, maximum):
    channel.sendall(frame(FetchMetadata(name=name, maximum_bytes=maximum)))
    return receive()

def result(text):
    channel.sendall(frame(VerifyResult(refusal=Reason(code="told", text=text))))

if fault == "die-early":
    os._exit(9)
receive()
if fault == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
elif fault == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
elif fault == "close":
    channel.close(); time.sleep(60)
elif fault == "garbage":
    channel.sendall(b"\\x00\\x00\\x00\\x02ab")
elif fault == "huge-frame":
    channel.sendall(b"\\xff\\xff\\xff\\xff")
elif fault == "path":
    ask("../../etc/shadow.json", 10)
elif fault == "negative":
    ask("timestamp.json", -1)
elif fault == "endless":
    while True:
        ask("timestamp.json", 10)
elif fault == "tell":
    result(str(ask("timestamp.json", 10)))
time.sleep(60)
"""

Peer = Callable[[str], tuple[str, ...]]

REQUEST = VerifyRequest(device="cam-1", root=b"{}", metadata={}, marks=(), now=0.0, director=None)


@pytest.fixture
def verifier(tmp_path: Path) -> Peer:
    script = tmp_path / "verifier.py"
    script.write_text(_PEER)
    return lambda fault: (sys.executable, str(script), fault)


async def _nothing(name: str, maximum: int) -> FetchedMetadata:
    return FetchedMetadata(data=None)


def _refusal(result: VerifyResult) -> tuple[str, str]:
    assert result.assignments == ()
    assert own_children() == []
    assert result.refusal is not None
    return result.refusal.code, result.refusal.text


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("die-early", "verifier-died", "exit status 9"),
        ("crash", "verifier-died", f"signal {int(signal.SIGSEGV)}"),
        ("close", "verifier-died", "closed its channel"),
        ("hang", "verifier-timeout", "1.5 s"),
        ("garbage", "verifier-protocol", "broke its protocol"),
        ("huge-frame", "verifier-protocol", "4294967295 bytes announced"),
        ("path", "verifier-protocol", "not the name of a metadata file"),
        ("negative", "verifier-protocol", "-1 bytes"),
        ("endless", "verifier-protocol", "more than 600 files"),
    ],
)
async def test_a_fault_is_a_refusal_and_leaves_no_process(
    fault: str, code: str, words: str, verifier: Peer
) -> None:
    seconds = 1.5 if fault == "hang" else 20.0
    told, text = _refusal(await verify(REQUEST, _nothing, timeout_seconds=seconds, command=verifier(fault)))
    assert told == code
    assert words in text


async def test_a_verifier_killed_from_outside_is_a_refusal(verifier: Peer) -> None:
    async def killing_fetch(name: str, maximum: int) -> FetchedMetadata:
        for child in own_children():
            os.kill(child.pid, signal.SIGKILL)
        return FetchedMetadata(data=b"x")

    code, text = _refusal(
        await verify(REQUEST, killing_fetch, timeout_seconds=20.0, command=verifier("tell"))
    )
    assert (code, text) == ("verifier-died", "the verifier died without a result: signal 9")


async def test_a_fetch_that_hangs_ends_with_the_timeout(verifier: Peer) -> None:
    async def hanging(name: str, maximum: int) -> FetchedMetadata:
        await asyncio.Event().wait()
        raise AssertionError

    code, _ = _refusal(await verify(REQUEST, hanging, timeout_seconds=1.0, command=verifier("tell")))
    assert code == "verifier-timeout"


async def test_a_fetch_that_fails_is_told_to_the_child_as_an_error(verifier: Peer) -> None:
    async def failing(name: str, maximum: int) -> FetchedMetadata:
        raise ConnectionError("the broker is gone")

    code, text = _refusal(await verify(REQUEST, failing, timeout_seconds=20.0, command=verifier("tell")))
    assert code == "told"
    assert "timestamp.json: the broker is gone" in text


async def test_more_bytes_than_were_asked_for_never_reach_the_child(verifier: Peer) -> None:
    async def endless(name: str, maximum: int) -> FetchedMetadata:
        return FetchedMetadata(data=bytes(maximum + 1))

    code, text = _refusal(await verify(REQUEST, endless, timeout_seconds=20.0, command=verifier("tell")))
    assert code == "told"
    assert "longer than 10 bytes" in text


async def test_a_request_too_large_for_a_frame_is_a_refusal(verifier: Peer) -> None:
    large = VerifyRequest(device="cam-1", root=bytes(9 << 20), metadata={}, marks=(), now=0.0, director=None)
    code, text = _refusal(await verify(large, _nothing, timeout_seconds=20.0, command=verifier("tell")))
    assert code == "verifier-protocol"
    assert "too large" in text


async def test_a_verifier_that_can_t_be_started_is_a_refusal() -> None:
    code, _ = _refusal(await verify(REQUEST, _nothing, timeout_seconds=5.0, command=("/nowhere",)))
    assert code == "verifier-not-started"


async def test_cancelling_leaves_no_process(verifier: Peer) -> None:
    asked = asyncio.Event()

    async def hanging(name: str, maximum: int) -> FetchedMetadata:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    checking = asyncio.create_task(verify(REQUEST, hanging, timeout_seconds=20.0, command=verifier("tell")))
    await asked.wait()
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert own_children() == []
