"""``python -m hw_bench``: measure a release on this machine as evidence, or compare how servers serve it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agent.protocol.evidence import BenchReport
from agent.protocol.ids import is_name
from hw_bench.delta.command import add_delta
from hw_bench.drift.command import add_drift
from hw_bench.drift_study.command import add_drift_study
from hw_bench.errors import BenchError
from hw_bench.hub_year.command import add_hub_year
from hw_bench.ingest.command import add_ingest
from hw_bench.serving.command import add_commands
from hw_bench.subject import read_subject
from hw_bench.tuning.command import add_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it is done, 1 when it is refused (the reason on stderr), 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except BenchError as error:
        print(f"hw_bench: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    from hw_bench.bench import run_bench  # noqa: PLC0415 - brings NumPy, which the other commands must not share
    from hw_bench.scenarios import FULL, QUICK  # noqa: PLC0415

    report = run_bench(
        read_subject(options.directory),
        hardware_class=options.hardware_class,
        effort=QUICK if options.quick else FULL,
        progress=lambda name: print(f"measuring {name} …", file=sys.stderr),
    )
    encoded = msgspec.json.encode(report, order="deterministic")
    options.out.write_bytes(msgspec.json.format(encoded, indent=2) + b"\n")
    _show(report)
    if options.plot is not None:
        from hw_bench.plot import draw  # noqa: PLC0415 - matplotlib takes a second to import

        draw(report, options.plot)


def _show(report: BenchReport) -> None:
    for result in report.scenarios:
        print(
            f"{result.variant:14} {result.scenario:14} p50 {result.p50_us:10.1f} us  p99 {result.p99_us:10.1f} us  "
            f"{result.rows_per_second:12,.0f} rows/s  ({result.queries} queries)"
        )
    for memory in report.memory:
        print(
            f"{memory.variant:14} memory         loaded {memory.pss_mib:.1f} MiB, peak {memory.peak_pss_mib:.1f} MiB"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hw_bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="measure every variant of a release folder, each in its own process"
    )
    run.add_argument("directory", type=Path, metavar="RELEASE_DIR")
    run.add_argument("--hardware-class", type=_name, required=True, metavar="NAME")
    run.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    run.add_argument("--plot", type=Path, metavar="FILE.png")
    run.add_argument("--quick", action="store_true", help="at most about 5 seconds a variant")
    run.set_defaults(run=_run)
    add_commands(commands)
    add_command(commands)
    add_delta(commands)
    add_ingest(commands)
    add_drift(commands)
    add_drift_study(commands)
    add_hub_year(commands)
    return parser


def _name(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r}: 1-64 of a-z 0-9 . _ -, no separator at either end")
    return text


if __name__ == "__main__":
    sys.exit(main())
