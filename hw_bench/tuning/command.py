"""``python -m hw_bench tuning RELEASE_DIR``."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import msgspec

from hw_bench.errors import MeasurementError
from hw_bench.tuning.measured import Measured

ROUNDS = 3
HEAD = (
    "| model | setting | p50 µs | p99 µs | loaded MiB | after batches MiB | idle % of a core |\n"
    "|---|---|---|---|---|---|---|"
)


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``tuning``; it sets ``run``."""
    tuning = commands.add_parser(
        "tuning", help="measure settings of ONNX Runtime and LiteRT, each in a process of its own"
    )
    tuning.add_argument("directory", type=Path, metavar="RELEASE_DIR")
    tuning.add_argument(
        "--rounds", type=int, default=ROUNDS, metavar="N", help="medians of so many (%(default)s)"
    )
    tuning.add_argument("--markdown", type=Path, metavar="FILE.md")
    tuning.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    table = measure_all(options.directory, options.rounds)
    print(table)  # noqa: T201 - a command prints
    if options.markdown is not None:
        options.markdown.write_text(table + "\n", encoding="utf-8")


def measure_all(release: Path, rounds: int) -> str:
    """The table, as Markdown; settings take turns, so that a slow minute meets them all.

    Raises:
        SubjectError: nothing to measure.
        MeasurementError: a child failed.
    """
    from hw_bench.tuning.settings import SETTINGS  # noqa: PLC0415 - brings both libraries
    from hw_bench.tuning.subjects import subjects  # noqa: PLC0415 - brings the recipes

    lines = [HEAD]
    with tempfile.TemporaryDirectory(prefix="edgeward-tuning-") as folder:
        for name, runtime, path in subjects(release, Path(folder)):
            measured: dict[str, list[Measured]] = {setting: [] for setting in SETTINGS[runtime]}
            for _ in range(rounds):
                for setting, results in measured.items():
                    results.append(_measure(runtime, path, setting))
            lines += [_line(name, setting, results) for setting, results in measured.items()]
    return "\n".join(lines)


def _measure(runtime: str, path: Path, setting: str) -> Measured:
    child = subprocess.run(
        [sys.executable, "-m", "hw_bench.tuning.child", runtime, path, setting],
        capture_output=True,
        check=False,
    )
    if child.returncode != 0:
        problem = child.stderr.decode(errors="replace").strip()[-400:]
        raise MeasurementError(f"{path.name}, {setting}: {problem or f'exit {child.returncode}'}")
    return msgspec.json.decode(child.stdout, type=Measured)


def _line(name: str, setting: str, results: list[Measured]) -> str:
    def middle(field: str) -> float:
        return median(float(getattr(result, field)) for result in results)

    return (
        f"| {name} | {setting} | {middle('p50_us'):.1f} | {middle('p99_us'):.1f} | {middle('loaded_mib'):.1f} "
        f"| {middle('used_mib'):.1f} | {middle('idle_percent'):.1f} |"
    )
