"""``python -m hw_bench drift-study``."""

import argparse
import shlex
from pathlib import Path

import msgspec

from hw_bench.errors import SubjectError
from hw_bench.page import tell, with_tables

BEGIN = "<!-- drift study: begin -->"
END = "<!-- drift study: end -->"
NAMES = ("digits", "photos", "table")
POWER_PAGE = "drift-power.md"
ACCURACY_PAGE = "accuracy.md"


def add_drift_study(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command; it sets ``run``."""
    command = commands.add_parser(
        "drift-study", help="measure drift's false alarms and delays, and the error of the estimated accuracy"
    )
    command.add_argument(
        "--subject", choices=NAMES, action="append", metavar="NAME", help="only this one; may be repeated"
    )
    command.add_argument(
        "--quick", action="store_true", help="a tenth of the draws: seconds, and wide intervals"
    )
    command.add_argument("--out", type=Path, metavar="FILE.json")
    command.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE.json",
        help="draw and write what was measured before",
    )
    command.add_argument(
        "--docs",
        type=Path,
        metavar="DIR",
        help=f"write {POWER_PAGE}, {ACCURACY_PAGE} (between their markers) and images/drift-*.svg there",
    )
    command.set_defaults(run=run_drift_study)


def run_drift_study(options: argparse.Namespace) -> None:
    """Measure, or read what was measured; show and write it."""
    from hw_bench.drift_study.report import StudyReport  # noqa: PLC0415 - brings NumPy
    from hw_bench.drift_study.study import FULL, QUICK, run_study  # noqa: PLC0415 - brings scikit-learn
    from hw_bench.drift_study.table import accuracy_table, power_tables  # noqa: PLC0415

    pages = (
        {} if options.docs is None else {name: options.docs / name for name in (POWER_PAGE, ACCURACY_PAGE)}
    )
    for path in pages.values():
        with_tables(path, "", BEGIN, END)  # refused before minutes of measuring, not after
    if options.source is not None:
        try:
            report = msgspec.json.decode(options.source.read_bytes(), type=StudyReport)
        except (OSError, msgspec.DecodeError) as error:
            raise SubjectError(f"--from {options.source}: can't be read as a study: {error}") from error
    else:
        names = [name for name in NAMES if options.subject is None or name in options.subject]
        report = run_study(QUICK if options.quick else FULL, names, _command(options), tell)
    tables = {POWER_PAGE: power_tables(report), ACCURACY_PAGE: accuracy_table(report)}
    print("\n".join(tables.values()))  # noqa: T201 - a command prints
    if options.out is not None:
        options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    for name, path in pages.items():
        path.write_text(with_tables(path, tables[name], BEGIN, END), encoding="utf-8")
    if options.docs is not None:
        from hw_bench.drift_study.plots import draw  # noqa: PLC0415 - matplotlib takes a second to import

        (options.docs / "images").mkdir(exist_ok=True)
        draw(report, options.docs / "images")


def _command(options: argparse.Namespace) -> str:
    """What makes it again; where somebody put the JSON is no part of it."""
    words = ["python", "-m", "hw_bench", "drift-study"]
    for name in options.subject or ():
        words += ["--subject", name]
    if options.quick:
        words.append("--quick")
    if options.docs is not None:
        words += ["--docs", str(options.docs)]
    return shlex.join(words)
