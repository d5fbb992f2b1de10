"""Real processes of the loop: started with a log file each, stopped by pid."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
BIN = Path(sys.executable).parent


class StepFailedError(Exception):
    """A step of the loop did not come out as it must; the text says what was seen."""


def wait_for(what: str, check: Callable[[], T | None], *, seconds: float, every: float = 0.25) -> T:
    """Call ``check`` until it returns something true.

    Raises:
        StepFailedError: it did not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise StepFailedError(f"waited {seconds:.0f} s for {what}")
        time.sleep(every)


def run(name: str, *arguments: str, cwd: Path | None = None, allowed: tuple[int, ...] = (0,)) -> str:
    """Run one of our console scripts, or ``python -m`` for ``python``, to its end and return what it printed.

    Raises:
        StepFailedError: its exit code is not in ``allowed``; the text carries what it said.
    """
    argv = [sys.executable, *arguments] if name == "python" else [str(BIN / name), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd, timeout=170)
    if done.returncode not in allowed:
        shown = " ".join([name, *arguments])
        raise StepFailedError(
            f"`{shown}` exited {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return done.stdout


@dataclass
class Service:
    """A long-running console script."""

    name: str
    argv: Sequence[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(BIN / self.argv[0]), *self.argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
            )

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was not started"
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, as a power cut would, and wait."""
        os.kill(self.pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait(10)

    def stop(self, seconds: float = 20.0) -> None:
        """SIGTERM and wait; SIGKILL what does not go."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def require_alive(self) -> None:
        """Raise StepFailedError with the log's tail if the process has ended."""
        if self.process is not None and self.process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise StepFailedError(f"{self.name} ended with {self.process.returncode}:\n{tail}")
