"""Our runner: the real process, over its real control channel, as the supervisor starts it."""

import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from msgspec import Struct

from agent.protocol.runner import (
    Accept,
    Accepting,
    FromRunner,
    Loaded,
    SharedMemoryAccess,
    Start,
    Statistics,
    Stop,
    WindowClosed,
)
from hw_bench.errors import ServerError
from hw_bench.serving.control import Control
from hw_bench.serving.messages import How
from hw_bench.serving.model import ServedModel
from hw_bench.serving.servers import ServerProcess
from hw_bench.serving.targets import EDGEWARD

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""As the supervisor starts its runners."""

MAXIMUM_BODY_BYTES = 4 * 1024 * 1024
QUEUE_DEPTH = 128


class EdgewardServer:
    """One runner, accepting on a loopback port and on a Unix socket of its own."""

    how: How = "binary"

    def __init__(
        self,
        model: ServedModel,
        *,
        name: str = EDGEWARD,
        shared_memory: SharedMemoryAccess = "off",
    ) -> None:
        self.name = name
        self.model = model
        self._shared_memory = shared_memory
        self._folder: Path | None = None
        self._listener: socket.socket | None = None
        self._control: Control | None = None
        self._process: ServerProcess | None = None
        self._backend = ""
        self.windows = 0
        """Drift windows that the runner has closed and told: proof that bookkeeping was on."""
        self.statistics: Statistics | None = None
        """The newest the runner has told: proof that it counted."""

    @property
    def setup(self) -> str:
        """In words."""
        drift = "without drift bookkeeping" if self.model.reference is None else "drift bookkeeping on"
        return f"one runner process on {self._backend}, validation and statistics on, {drift}, 1 thread"

    @property
    def address(self) -> str:
        if self._listener is None:
            raise ServerError(f"{self.name} has no address before it has started")
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    @property
    def private_path(self) -> Path:
        """Its Unix socket, there (and connectable) as soon as :meth:`begin` has returned."""
        if self._folder is None:
            raise ServerError(f"{self.name} has no socket before it has started")
        return self._folder / "runner.sock"

    def start(self) -> None:
        """See :class:`hw_bench.serving.servers.Server`."""
        self.begin()
        self.accept()

    def begin(self) -> None:
        """Start the process and tell it what to load; returns before it has."""
        self._folder = Path(tempfile.mkdtemp(prefix="edgeward-bench-"))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as private:
            private.bind(str(self.private_path))
            private.listen(16)
            ours, theirs = socket.socketpair()
            with theirs:
                fds = (theirs.fileno(), private.fileno(), self._listener.fileno())
                self._process = ServerProcess(
                    self.name,
                    [sys.executable, "-m", "agent.runner", "--control-fd", str(theirs.fileno())],
                    environment=ONE_THREAD,
                    pass_fds=fds,
                )
            self._control = Control(ours, FromRunner)
            self._control.send(self._start_message(private.fileno(), self._listener.fileno()))

    def accept(self) -> None:
        """Wait until the model is loaded, then have it accept on the port.

        Raises:
            ServerError: the runner refused the model or ended; the text says why.
        """
        if self._control is None or self._process is None:
            raise ServerError(f"{self.name} was not begun")
        try:
            self._backend = self._control.expect(Loaded).backend
            self._control.send(Accept())
            self._control.expect(Accepting)
        except ServerError as error:
            words = self._process.last_words()
            self.stop()
            raise ServerError(f"{self.name}: {error} {words}") from error
        self._control.listen(self._heard)

    def _heard(self, message: Struct) -> None:
        if isinstance(message, Statistics):
            self.statistics = message
        elif isinstance(message, WindowClosed):
            self.windows += 1

    def pids(self) -> list[int]:
        """See :class:`hw_bench.serving.servers.Server`."""
        return [] if self._process is None else self._process.pids()

    def stop(self) -> None:
        """See :class:`hw_bench.serving.servers.Server`."""
        if self._control is not None:
            self._control.close(Stop())
            self._control = None
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def _start_message(self, private_fd: int, shared_fd: int) -> Start:
        model = self.model
        return Start(
            model=model.name,
            release=1,
            deployment="bench",
            variant=model.runtime,
            runtime=model.runtime,
            artifact_path=str(model.path),
            artifact_sha256=model.sha256,
            inputs=(model.input,),
            outputs=model.outputs,
            labels=(),
            reference_path=None if model.reference is None else os.fspath(model.reference),
            private_fd=private_fd,
            shared_fds=(shared_fd,),
            threads=1,
            default_deadline_ms=1_000.0,
            maximum_body_bytes=MAXIMUM_BODY_BYTES,
            queue_depth=QUEUE_DEPTH,
            shared_memory=self._shared_memory,
        )
