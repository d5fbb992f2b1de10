"""``python -m hw_bench drift``."""

import argparse
import shlex
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hw_bench.machine import machine
from hw_bench.page import tell, with_tables
from hw_bench.serving.peers import DEFAULT_FOLDER

BEGIN = "<!-- drift bench: begin -->"
END = "<!-- drift bench: end -->"


def add_drift(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add it; it sets ``run``."""
    parser = commands.add_parser(
        "drift", help="what drift bookkeeping costs, beside whylogs and River on the same stream"
    )
    parser.add_argument("--peers", type=Path, default=DEFAULT_FOLDER, metavar="DIR", help="their environment")
    parser.add_argument(
        "--install", action="store_true", help="make their environment if it is not there (1.1 GB), and end"
    )
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that it runs")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE.md",
        help="write the tables; between its markers where the file is there and has them",
    )
    parser.set_defaults(run=run_drift)


def run_drift(options: argparse.Namespace) -> None:
    """Measure, show and write; or install."""
    from hw_bench.drift import peers  # noqa: PLC0415 - what follows brings NumPy
    from hw_bench.drift.bench import FULL, QUICK, measure  # noqa: PLC0415
    from hw_bench.drift.table import DriftBenchReport, markdown  # noqa: PLC0415

    if options.install:
        peers.install(options.peers, tell)
        return
    if options.markdown is not None:
        with_tables(options.markdown, "", BEGIN, END)  # refused before minutes of measuring, not after
    report = DriftBenchReport(
        machine=machine(),
        time=f"{datetime.now(UTC):%Y-%m-%d}",
        command=shlex.join(["python", "-m", "hw_bench", "drift", *(["--quick"] if options.quick else [])]),
        bench=measure(QUICK if options.quick else FULL, options.peers, tell),
    )
    tables = markdown(report)
    print(tables, end="")  # noqa: T201 - the command's result
    if options.out is not None:
        options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if options.markdown is not None:
        options.markdown.write_text(with_tables(options.markdown, tables, BEGIN, END), encoding="utf-8")
