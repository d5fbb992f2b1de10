"""``python -m hw_bench serving`` and ``python -m hw_bench peers``."""

import argparse
import shlex
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import msgspec
from rich.console import Console

from hw_bench.errors import SubjectError
from hw_bench.page import tell, with_tables
from hw_bench.serving import peers
from hw_bench.serving.bench import PARTS, Plan, run
from hw_bench.serving.model import read_served
from hw_bench.serving.rounds import FULL, QUICK
from hw_bench.serving.table import BEGIN, END, markdown, show
from hw_bench.serving.targets import ECHO, EDGEWARD, FRONT, MLSERVER, TRITON

_WIDTH = 120
"""Characters a line, where the output goes to no terminal."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``serving`` and ``peers``; each sets ``run``."""
    serving = commands.add_parser(
        "serving", help="compare serving: our runner, its front, Triton, MLServer and a bare echo server"
    )
    serving.add_argument(
        "directory",
        type=Path,
        metavar="RELEASE_DIR",
        nargs="?",
        help="default: the digits student, made anew",
    )
    _add_peers(serving)
    serving.add_argument("--part", choices=PARTS, action="append", help="only this part; may be repeated")
    serving.add_argument(
        "--server",
        choices=(ECHO, EDGEWARD, FRONT, TRITON, MLSERVER),
        action="append",
        help="in the part requests, only this server; may be repeated",
    )
    serving.add_argument("--out", type=Path, metavar="FILE.json")
    serving.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE.md",
        help="write the tables; between its markers where the file is there and has them",
    )
    serving.add_argument("--quick", action="store_true", help="a tenth of the rounds, to see that it runs")
    serving.set_defaults(run=run_serving)
    install = commands.add_parser("peers", help="install Triton and MLServer, each in its own environment")
    _add_peers(install)
    install.set_defaults(run=run_peers)


def _add_peers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peers",
        type=Path,
        metavar="DIR",
        default=peers.DEFAULT_FOLDER,
        help="where Triton and MLServer are installed (default: %(default)s)",
    )


def run_peers(options: argparse.Namespace) -> None:
    """Install what is not there."""
    peers.install(options.peers, tell)


def run_serving(options: argparse.Namespace) -> None:
    """Measure, show and write."""
    if options.markdown is not None:
        with_tables(options.markdown, "", BEGIN, END)  # refused before minutes of measuring, not after
    with ExitStack() as stack:
        plan = Plan(
            models=read_served(options.directory or _digits(stack)),
            peers=options.peers,
            effort=QUICK if options.quick else FULL,
            parts=tuple(options.part or PARTS),
            servers=tuple(options.server or ()),
            command=shlex.join(["python", "-m", "hw_bench", *sys.argv[1:]]),
        )
        report = run(plan, tell)
    console = Console()
    show(report, console if console.is_terminal else Console(width=_WIDTH))
    if options.out is not None:
        options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if options.markdown is not None:
        options.markdown.write_text(
            with_tables(options.markdown, markdown(report), BEGIN, END), encoding="utf-8"
        )


def _digits(stack: ExitStack) -> Path:
    """In processes of their own, so that what they import is gone again."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeward-bench-digits-")))
    teacher, student = folder / "teacher", folder / "student"
    tell("making the digits student")
    for arguments in (("teacher", "--out", teacher), ("student", "--teacher", teacher, "--out", student)):
        made = subprocess.run(
            [sys.executable, "-m", "models", "digits", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise SubjectError(f"python -m models digits {arguments[0]}: {made.stderr.strip()}")
    return student
