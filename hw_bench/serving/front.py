"""Our front: the one address of a device with several models, before a runner that is measured too."""

import socket
import sys

from agent.protocol.front import FromFront, FrontReady, FrontStart
from hw_bench.errors import ServerError
from hw_bench.serving.control import Control
from hw_bench.serving.edgeward import MAXIMUM_BODY_BYTES, EdgewardServer
from hw_bench.serving.messages import How
from hw_bench.serving.servers import ServerProcess
from hw_bench.serving.targets import FRONT


class FrontServer:
    """A front process; the runner behind it, which must run already, is reached by its Unix socket."""

    name = FRONT
    how: How = "binary"
    setup = "the front process, which passes each request to the runner's Unix socket"

    def __init__(self, runner: EdgewardServer) -> None:
        self._runner = runner
        self._listener: socket.socket | None = None
        self._control: Control | None = None
        self._process: ServerProcess | None = None

    @property
    def address(self) -> str:
        if self._listener is None:
            raise ServerError(f"{self.name} has no address before it has started")
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def start(self) -> None:
        """See :class:`hw_bench.serving.servers.Server`."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = ServerProcess(
                self.name,
                [sys.executable, "-m", "agent.front", "--control-fd", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), self._listener.fileno()),
            )
        self._control = Control(ours, FromFront)
        self._control.send(
            FrontStart(
                listening_fd=self._listener.fileno(),
                models={self._runner.model.name: str(self._runner.private_path)},
                maximum_body_bytes=MAXIMUM_BODY_BYTES,
            )
        )
        try:
            self._control.expect(FrontReady)
        except ServerError as error:
            words = self._process.last_words()
            self.stop()
            raise ServerError(f"{self.name}: {error} {words}") from error

    def pids(self) -> list[int]:
        """See :class:`hw_bench.serving.servers.Server`; without the runner's."""
        return [] if self._process is None else self._process.pids()

    def stop(self) -> None:
        """See :class:`hw_bench.serving.servers.Server`."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
