"""A server that is measured: started, asked whether it is ready, stopped by its own process id."""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from hw_bench.errors import ServerError
from hw_bench.serving.messages import How

START_SECONDS = 60.0
STOP_SECONDS = 20.0
_DYING_SECONDS = 1.0
_LAST_BYTES = 2_000


class Server(Protocol):
    """One server with one model."""

    name: str
    how: How
    """The best that it takes."""

    @property
    def setup(self) -> str:
        """In words, what it is and what was set."""
        ...

    @property
    def address(self) -> str:
        """``host:port`` of its HTTP."""
        ...

    def start(self) -> None:
        """Return when it answers that the model is ready.

        Raises:
            AbsentError: it is not installed.
            ServerError: it did not start.
        """
        ...

    def pids(self) -> list[int]:
        """Its processes, children too."""
        ...

    def stop(self) -> None:
        """End it; nothing where it does not run."""
        ...


class ServerProcess:
    """A child process with its log in a file; its children end with it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            pass_fds=tuple(pass_fds),
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self, address: str, path: str, seconds: float = START_SECONDS) -> None:
        """Return when ``GET path`` is answered 200.

        Raises:
            ServerError: the process ended, or it took too long; with the log's last lines.
        """
        give_up = time.monotonic() + seconds
        while not _says_ready(address, path):
            if self.process.poll() is not None:
                raise ServerError(f"{self._name} ended with {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > give_up:
                raise ServerError(f"{self._name} was not ready after {seconds:g} s: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        """The log's last lines; of a process that is about to end, all it has to say."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_DYING_SECONDS)
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LAST_BYTES))
        return self._log.read().decode(errors="replace").strip()

    def pids(self) -> list[int]:
        """Of the process and of all below it."""
        return [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]

    def stop(self) -> None:
        """Ask, wait, then kill; and so with what it leaves behind."""
        below: list[psutil.Process] = []
        if self.process.poll() is None:
            below = psutil.Process(self.pid).children(recursive=True)
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_SECONDS)
        _, alive = psutil.wait_procs(below, timeout=STOP_SECONDS / 4)
        for process in alive:
            process.kill()
        self._log.close()


class PortServer:
    """What servers have in common that are given a port, and perhaps a folder, of their own."""

    name = ""
    how: How = "binary"

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._port: int | None = None
        self._process: ServerProcess | None = None

    @property
    def address(self) -> str:
        if self._port is None:
            raise ServerError(f"{self.name} has no address before it has started")
        return f"127.0.0.1:{self._port}"

    def pids(self) -> list[int]:
        return [] if self._process is None else self._process.pids()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def _make_folder(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix=f"edgeward-bench-{self.name}-"))
        return self._folder


def _says_ready(address: str, path: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now (for servers that can't be handed a socket)."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(entry.getsockname()[1]) for entry in sockets]
    finally:
        for entry in sockets:
            entry.close()
