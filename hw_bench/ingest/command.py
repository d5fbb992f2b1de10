"""``python -m hw_bench ingest``."""

import argparse
import platform
import shlex
import sqlite3
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hw_bench.errors import SubjectError
from hw_bench.machine import machine
from hw_bench.page import tell, with_tables

if TYPE_CHECKING:
    from hw_bench.ingest.workload import Shape

BEGIN = "<!-- ingest bench: begin -->"
END = "<!-- ingest bench: end -->"


def add_ingest(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add it; it sets ``run``."""
    parser = commands.add_parser(
        "ingest",
        help="telemetry batches a second that the hub takes, beside a bare subscriber and the broker's own limit",
    )
    parser.add_argument(
        "--shape",
        type=int,
        action="append",
        metavar="N",
        help="only this shape of batch, from 1; may be repeated",
    )
    parser.add_argument("--no-postgresql", action="store_true", help="SQLite alone")
    parser.add_argument("--rounds", type=int, metavar="N", help="of each subject (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it runs")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE.md",
        help="write the tables; between its markers where the file is there and has them",
    )
    parser.set_defaults(run=run_ingest)


def run_ingest(options: argparse.Namespace) -> None:
    """Measure, show and write."""
    from hw_bench.ingest.bench import FULL, QUICK, measure  # noqa: PLC0415 - brings paho
    from hw_bench.ingest.table import IngestBenchReport, markdown  # noqa: PLC0415

    if options.markdown is not None:
        with_tables(options.markdown, "", BEGIN, END)  # refused before minutes of measuring, not after
    effort = QUICK if options.quick else FULL
    if options.rounds is not None:
        if options.rounds < 1:
            raise SubjectError(f"--rounds {options.rounds}: 1 or more are allowed")
        effort = msgspec.structs.replace(effort, rounds=options.rounds)
    report = IngestBenchReport(
        machine=machine(),
        packages=_versions(),
        command=_command(options),
        made=datetime.now(UTC).strftime("%Y-%m-%d"),
        results=measure(effort, _shapes(options.shape), tell, postgresql=not options.no_postgresql),
    )
    text = markdown(report)
    print(text)  # noqa: T201 - a command prints
    if options.out is not None:
        options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if options.markdown is not None:
        options.markdown.write_text(with_tables(options.markdown, text, BEGIN, END), encoding="utf-8")


def _shapes(chosen: list[int] | None) -> "tuple[Shape, ...]":
    from hw_bench.ingest.workload import SHAPES  # noqa: PLC0415

    for number in chosen or ():
        if not 1 <= number <= len(SHAPES):
            named = "; ".join(f"{place} is {shape.name}" for place, shape in enumerate(SHAPES, 1))
            raise SubjectError(f"--shape {number}: {named}")
    return tuple(SHAPES[number - 1] for number in chosen) if chosen else SHAPES


def _command(options: argparse.Namespace) -> str:
    """What makes these tables again; where somebody put the JSON beside them is no part of it."""
    words = ["python", "-m", "hw_bench", "ingest"]
    for number in options.shape or ():
        words += ["--shape", str(number)]
    if options.rounds is not None:
        words += ["--rounds", str(options.rounds)]
    words += ["--no-postgresql"] * options.no_postgresql + ["--quick"] * options.quick
    if options.markdown is not None:
        words += ["--markdown", str(options.markdown)]
    return shlex.join(words)


def _versions() -> dict[str, str]:
    said = subprocess.run(
        ["mosquitto", "-h"], capture_output=True, text=True, check=False, env={"PATH": "/usr/sbin:/usr/bin"}
    )
    broker = said.stdout.split("\n", 1)[0].removeprefix("mosquitto version ")
    names = ("paho-mqtt", "SQLAlchemy", "psycopg")
    return {
        "Python": platform.python_version(),
        "Mosquitto": broker,
        "SQLite": sqlite3.sqlite_version,
        **{name: version(name) for name in names},
    }
