"""Peer processes that misbehave. The good path is tested with the real runner, in tests/integration/supervisor."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.protocol.manifest import TensorSpec
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.specs import RunnerSpec

PEER = """
import os, signal, socket, sys, time
from agent.protocol.codec import FrameDecoder, decode_msgpack, frame
from agent.protocol.runner import (
    Accept, Accepting, Drain, Drained, Loaded, LoadFailed, Probe, ProbeFailed, ProbeReport, Start, Statistics, Stop,
    ToRunner,
)

fault, channel = sys.argv[1], socket.socket(fileno=int(sys.argv[3]))
decoder, frames, held = FrameDecoder(), [], []

def receive():
    while not frames:
        data = channel.recv(65536)
        if not data:
            sys.exit(0)
        frames.extend(decoder.feed(data))
    return decode_msgpack(frames.pop(0), ToRunner)

def say(message):
    channel.sendall(frame(message))

def grow(mib):
    for _ in range(mib // 4):
        held.append(bytearray(os.urandom(1024) * 4096))
        time.sleep(0.002)

def hang():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)

assert isinstance(receive(), Start)
if fault == "hang-start":
    hang()
elif fault == "load-failed":
    say(LoadFailed(code="unknown-domain", text="operator domain com.evil is not known"))
    hang()
elif fault == "die-start":
    sys.exit(3)
elif fault == "grow-start":
    grow(600)
elif fault == "garbage":
    channel.sendall(b"\\x00\\x00\\x00\\x03abc")
    hang()
elif fault == "huge-frame":
    channel.sendall(b"\\x7f\\xff\\xff\\xff")
    hang()
say(Loaded(backend="fault", load_ms=1.0))
if fault == "unasked":
    say(Drained(closed_idle=0))
    hang()
elif fault == "leave-channel":
    channel.close()
    hang()
while True:
    message = receive()
    if isinstance(message, Probe):
        if fault == "die-probe":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif fault == "hang-probe":
            hang()
        elif fault == "grow-probe":
            grow(600)
        elif fault == "lie-probe":
            say(Accepting())
            hang()
        elif fault == "probe-failed":
            say(ProbeFailed(code="inference-failed", text="the model can't run its golden vectors"))
        elif fault == "spike-probe":
            held.append(bytearray(os.urandom(1024) * 1024 * 96)); held.clear()
            say(ProbeReport(golden_max_error=0.0, golden_class_agreement=1.0, golden_rows=1, p50_ms=1.0, p99_ms=1.0,
                            repetitions=1))
    elif isinstance(message, Accept):
        if fault == "mute-accept":
            hang()
        if fault == "die-accept":
            sys.exit(4)
        say(Accepting())
        if fault == "bomb":
            try:
                held.append(bytearray(700 * 1024 * 1024))
            except MemoryError:
                say(Statistics(requests=1, failures=1, refused=0, p50_ms=None, p95_ms=None, p99_ms=None))
        if fault == "die-serving":
            os.kill(os.getpid(), signal.SIGKILL)
    elif isinstance(message, Drain):
        if fault == "hang-drain":
            hang()
    elif isinstance(message, Stop):
        if fault == "hang-stop":
            hang()
        sys.exit(0)
"""


@pytest.fixture
def peer(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """The command of a runner with one named fault."""
    script = tmp_path / "peer.py"
    script.write_text(PEER)
    return lambda fault: (sys.executable, str(script), fault)


@pytest.fixture
async def listeners(tmp_path: Path) -> AsyncIterator[ModelListeners]:
    opened = await ModelListeners.open(
        "digits", unix_path=tmp_path / "digits.sock", private_folder=tmp_path / "slots", tcp=("127.0.0.1", 0)
    )
    yield opened
    opened.close()


@pytest.fixture
def spec() -> RunnerSpec:
    return RunnerSpec(
        model="digits",
        release=3,
        deployment="d-3",
        variant="onnx-int8",
        runtime="onnx",
        artifact_path="/nowhere/model.onnx",
        artifact_sha256="0" * 64,
        inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 2)),),
    )
