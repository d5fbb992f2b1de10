"""What one check costs when nothing is new: ``python -m tests.fault.trust.measure_refresh``.

A real repository of the hub's own code, the device's stored state after a first check, and the verifier as the process that it
is on a device. CPU is what the scheduler counted for the child (``/proc/<pid>/schedstat``): up to the moment at which it has started and waits
for its first byte, and from there to its answer. On the wire: the MQTT packets in both directions for what the child asked for, their acknowledgements included.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from agent.protocol.codec import encode_msgpack
from agent.protocol.limits import BLOCK_BYTES
from agent.protocol.state import ModelRelease
from agent.protocol.topics import Channel, topic
from agent.protocol.transfer import BlockRequest, MetadataSource
from agent.protocol.verification import FetchedMetadata, FetchMetadata, VerifyRequest
from agent.trust.sandbox import CPU_SECONDS
from cloud_hub.bridge.transfer import answer
from cloud_hub.registry.artifacts import ArtifactStore
from tests.fault.trust.hub_simulator import DEVICE, Device, HubSimulator, MemoryStore, converse

MODELS = ("digits", "faces", "keywords")
Answer = Callable[[FetchMetadata], FetchedMetadata | bytes]
RELEASES = 5
"""Of each model: what a role carries."""


class Cost(Struct, frozen=True, kw_only=True):
    """Of one check; medians."""

    start_ms: float
    """CPU of the child until it waits for its request, and from its answer to its end."""
    check_ms: float
    """CPU between the two."""
    wire_bytes: int
    asked: tuple[str, ...]


class Scene:
    """A device that has checked everything just now."""

    def __init__(self) -> None:
        self.hub = HubSimulator(models=MODELS, start=datetime.now(UTC))
        for model in MODELS:
            for release in range(1, RELEASES + 1):
                self.hub.approve(model, release)
        self.document = self.hub.direct_all(dict.fromkeys(MODELS, RELEASES))
        self.device = Device(root=self.hub.store.files["1.root.json"])
        result = self.device.check(self.hub, self.document)
        assert result.refusal is None, result.refusal
        assert len(result.assignments) == len(MODELS)
        self.wire = 0

    def check(self) -> tuple[float, float]:
        """Once more: CPU of the child in ms, for its start and end, and for the check."""
        self.hub.asked.clear()
        self.wire = 0
        request = VerifyRequest(
            device=DEVICE,
            root=self.device.root,
            metadata=self.device.metadata,
            marks=self.device.marks,
            now=self.hub.now.timestamp(),
            director=self.document,
            installed=tuple(ModelRelease(model=model, release=RELEASES) for model in MODELS),
        )
        return _cpu_of_child(request, self._answer)

    def _answer(self, question: FetchMetadata) -> FetchedMetadata | bytes:
        self.wire += wire_bytes(question.name, self.hub.store)
        return self.hub.answer(question)


def wire_bytes(name: str, store: MemoryStore) -> int:
    """MQTT packets of the request for a small file and of the hub's own answer; ids are as long as they get (48 bits)."""
    request = BlockRequest(id=2**48, source=MetadataSource(name=name), offset=0, length=BLOCK_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        response = answer(request, store, ArtifactStore(Path(folder)))
    asked = packet_bytes(topic(DEVICE, Channel.REQUEST), encode_msgpack(request))
    return asked + packet_bytes(topic(DEVICE, Channel.RESPONSE), encode_msgpack(response))


def packet_bytes(name: str, payload: bytes) -> int:
    """Of an MQTT 5 PUBLISH at QoS 1 (topic, packet id, no properties) and of its PUBACK (MQTT 5, 3.3 and 3.4)."""
    remaining = 2 + len(name) + 2 + 1 + len(payload)
    head = 1 + (1 if remaining < 128 else 2 if remaining < 16_384 else 3)
    return head + remaining + 4


def measure(rounds: int) -> Cost:
    """So many checks, one after the other."""
    scene = Scene()
    spent = [scene.check() for _ in range(rounds)]
    return Cost(
        start_ms=statistics.median(start for start, _ in spent),
        check_ms=statistics.median(check for _, check in spent),
        wire_bytes=scene.wire,
        asked=tuple(scene.hub.asked),
    )


def _cpu_of_child(request: VerifyRequest, respond: Answer) -> tuple[float, float]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "agent.trust", "--fd", str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as child:
            theirs.close()
            ready = _when_it_waits(child.pid)
            result = converse(ours, request, respond)
            answered = _scheduled_ms(child.pid)
            assert result.refusal is None, result.refusal
            assert len(result.assignments) == len(MODELS), result.refused
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
    whole = (used.ru_utime + used.ru_stime) * 1_000
    check = answered - ready
    return whole - check, check


def _when_it_waits(pid: int) -> float:
    """Its CPU once it has loaded everything and sleeps in its first read."""
    deadline = time.monotonic() + 60
    before = -1.0
    while True:
        time.sleep(0.05)
        now = _scheduled_ms(pid)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if now == before and state == "S" and _has_loaded(pid):
            return now
        assert time.monotonic() < deadline, f"the verifier does not wait for its request, it is {state}"
        before = now


def _has_loaded(pid: int) -> bool:
    """Its sandbox, entered after the imports, limits what it may have."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    return f"Max cpu time              {CPU_SECONDS} " in limits


def _scheduled_ms(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25, help="default: %(default)s")
    cost = measure(parser.parse_args(argv).rounds)
    sys.stdout.write(
        f"the verifier's start and end   {cost.start_ms:6.1f} ms of CPU\n"
        f"refresh + verify, nothing new  {cost.check_ms:6.1f} ms of CPU beside it; at most 10 are wanted\n"
        f"on the wire                    {cost.wire_bytes:6d} bytes; at most 1,024 are wanted ({', '.join(cost.asked)})\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
