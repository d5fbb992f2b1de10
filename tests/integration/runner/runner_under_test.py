"""A real runner process, driven over a real control socket."""

import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from agent.protocol.access import Access
from agent.protocol.codec import FrameDecoder, decode_msgpack, encode_msgpack, frame
from agent.protocol.golden import GoldenVectors
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import FromRunner, Loaded, SharedMemoryAccess, Start, Statistics, ToRunner
from tests.contract.runner import tiny_models as tiny

M = TypeVar("M", bound=Struct)

PATIENCE_SECONDS = 20.0


class RunnerUnderTest:
    """``tcp``: a shared listening socket that outlives the process; ``private``: the slot's Unix socket."""

    def __init__(self, folder: Path, tcp: socket.socket, private_name: str) -> None:
        self.folder = folder
        self.tcp = tcp
        self.private = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.private_path = folder / private_name
        self.private.bind(str(self.private_path))
        self.private.listen(16)
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(PATIENCE_SECONDS)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent.runner", "--control-fd", str(theirs.fileno())],
            pass_fds=(theirs.fileno(), self.private.fileno(), tcp.fileno()),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._decoder = FrameDecoder()
        self.heard: list[FromRunner] = []
        self._unread: list[FromRunner] = []

    def send(self, message: ToRunner) -> None:
        self._channel.sendall(frame(message))

    def send_raw(self, data: bytes) -> None:
        self._channel.sendall(data)

    def wait_for(self, kind: type[M]) -> M:
        """The next message of that kind; what comes before it is kept in ``heard``."""
        while True:
            while self._unread:
                message = self._unread.pop(0)
                self.heard.append(message)
                if isinstance(message, kind):
                    return message
            data = self._channel.recv(65536)
            if not data:
                raise AssertionError(f"the channel closed before {kind.__name__}; heard: {self.heard}")
            self._unread = [decode_msgpack(payload, FromRunner) for payload in self._decoder.feed(data)]

    def heard_to_the_end(self) -> list[FromRunner]:
        """Everything until the runner closes its channel."""
        self.heard += self._unread
        self._unread = []
        while data := self._channel.recv(65536):
            self.heard += [decode_msgpack(payload, FromRunner) for payload in self._decoder.feed(data)]
        return self.heard

    def statistics_when(self, condition: Callable[[Statistics], bool]) -> Statistics:
        while not condition(statistics := self.wait_for(Statistics)):
            pass
        return statistics

    def close_channel(self) -> None:
        self._channel.close()

    def start(self, **changes: Any) -> None:
        self.send(self.start_message(**changes))

    def start_message(
        self,
        *,
        model: str = "tiny",
        content: bytes | None = None,
        runtime: str = "onnx",
        inputs: tuple[TensorSpec, ...] = tiny.INPUTS,
        outputs: tuple[TensorSpec, ...] = tiny.OUTPUTS,
        reference: bytes | None = None,
        release: int = 1,
        default_deadline_ms: float = 5_000.0,
        maximum_body_bytes: int = 1 << 20,
        queue_depth: int = 16,
        shared_memory: SharedMemoryAccess = "off",
        access: Access | None = None,
        sha256: str | None = None,
    ) -> Start:
        content = tiny.onnx_linear() if content is None else content
        artifact = self.folder / hashlib.sha256(content).hexdigest()
        artifact.write_bytes(content)
        reference_path = self.folder / "reference.json"
        if reference is not None:
            reference_path.write_bytes(reference)
        return Start(
            model=model,
            release=release,
            deployment="d-1",
            variant="v",
            runtime=runtime,
            artifact_path=str(artifact),
            artifact_sha256=sha256 or artifact.name,
            inputs=inputs,
            outputs=outputs,
            labels=("a", "b", "c"),
            reference_path=None if reference is None else str(reference_path),
            private_fd=self.private.fileno(),
            shared_fds=(self.tcp.fileno(),),
            threads=1,
            default_deadline_ms=default_deadline_ms,
            maximum_body_bytes=maximum_body_bytes,
            queue_depth=queue_depth,
            shared_memory=shared_memory,
            access=access or Access(),
        )

    def load(self, **changes: Any) -> Loaded:
        self.start(**changes)
        return self.wait_for(Loaded)

    def golden(self, golden: GoldenVectors) -> str:
        path = self.folder / "golden.msgpack"
        path.write_bytes(encode_msgpack(golden))
        return str(path)

    def end(self) -> None:
        self._channel.close()
        self.private.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
