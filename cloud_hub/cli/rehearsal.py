"""Rehearse the ceremonies: run every command of docs/key-ceremonies.md, in a scratch folder, and stop at the first that fails."""

import argparse
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from msgspec import Struct

from cloud_hub.errors import HubError, InputError

PAGE = Path("docs/key-ceremonies.md")
PROGRAM = "edgeward-hub "
PORTS = ("8500", "8510")
"""Of the hub on the page; free ones take their place."""
START_SECONDS = 60.0

Main = Callable[[list[str]], int]


class RehearsalError(HubError):
    title = "The rehearsal failed"


class Step(Struct, frozen=True, kw_only=True):
    """One block of commands on the page."""

    title: str
    lines: tuple[str, ...]


def add_rehearse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="a new folder to do it in, which is kept (default: none is)",
    )
    parser.add_argument("--step", action="store_true", help="wait for Enter before each block")


def rehearse(arguments: argparse.Namespace, main: Main) -> None:
    """Run the page's commands; ``main`` is this program."""
    try:
        steps = read_steps(arguments.page.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{arguments.page}: {error.strerror}") from error
    with ExitStack() as stack:
        folder = arguments.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeward-rehearsal-")))
        elif folder.exists():
            raise InputError(f"{folder} is there already; name a new folder")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(_inside(folder))
        stage = Stage(main, stack)
        for step in steps:
            print(f"\n== {step.title}")
            if arguments.step:
                input("   Enter to go on ")
            for line in step.lines:
                stage.run(line)
    print(f"\nRehearsed: {len(steps)} steps, {sum(len(step.lines) for step in steps)} commands.")


def read_steps(page: str) -> tuple[Step, ...]:
    """The blocks marked ``sh`` of a page, each under its heading; a line that ends with a backslash goes on."""
    steps: list[Step] = []
    title, block, inside = "", list[str](), False
    for line in page.splitlines():
        if inside and line == "```":
            steps.append(Step(title=title, lines=_lines(block)))
            inside = False
        elif inside:
            block.append(line)
        elif line == "```sh":
            block, inside = [], True
        elif line.startswith("#"):
            title = line.lstrip("# ")
    return tuple(steps)


def _lines(block: list[str]) -> tuple[str, ...]:
    lines = ("\n".join(block)).replace("\\\n", " ").splitlines()
    return tuple(" ".join(line.split()) for line in lines if line.strip() and not line.startswith("#"))


class Stage:
    """Runs lines as a shell would: this program's in this process, which is quicker, the others by ``bash``."""

    def __init__(self, main: Main, stack: ExitStack) -> None:
        self._main = main
        self._stack = stack
        self._ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))

    def run(self, line: str) -> None:
        """Run one line; one that begins with ``!`` has to fail.

        Raises:
            RehearsalError: it did what it should not.
        """
        print(f"$ {line}", flush=True)
        for old, new in self._ports.items():
            line = line.replace(old, new)
        wrong = line.startswith("! ")
        command = line.removeprefix("! ")
        if command.endswith("&"):
            self._serve(command.removesuffix("&"))
            return
        status = self._status(command)
        if wrong is (status == 0):
            raise RehearsalError(
                f"{line}: status {status}, {'a failure' if wrong else 'success'} was expected"
            )

    def _status(self, command: str) -> int:
        if command.startswith(PROGRAM) and not set(command) & set("|>$;"):
            return self._main(shlex.split(command)[1:])
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        bash = shutil.which("bash") or "/bin/sh"
        return subprocess.run([bash, "-c", command], env=os.environ | {"PATH": path}, check=False).returncode

    def _serve(self, command: str) -> None:
        """A hub in the background, until the rehearsal ends."""
        arguments = [sys.executable, "-m", "cloud_hub", *shlex.split(command)[1:]]
        with Path("serve.log").open("wb") as log:
            process = subprocess.Popen(arguments, stdout=log, stderr=log)
        self._stack.callback(_stop, process)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{self._ports[PORTS[0]]}/health").raise_for_status()
            except httpx.HTTPError:
                if process.poll() is not None or time.monotonic() > deadline:
                    text = Path("serve.log").read_text(errors="replace")
                    raise RehearsalError(f"the hub did not start: {text[-2000:]}") from None
                time.sleep(0.1)
            else:
                return


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
