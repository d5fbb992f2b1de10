"""``python -m hw_bench delta`` and ``python -m hw_bench delta-models``."""

import argparse
import platform
import shlex
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hw_bench.delta import packages
from hw_bench.errors import AbsentError, SubjectError
from hw_bench.machine import machine
from hw_bench.page import tell, with_tables

if TYPE_CHECKING:
    from hw_bench.delta.bench import Subject

BEGIN = "<!-- delta bench: begin -->"
END = "<!-- delta bench: end -->"


def add_delta(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both; each sets ``run``."""
    delta = commands.add_parser(
        "delta", help="compare patches of real models: ours, zstd --patch-from, bsdiff, detools"
    )
    _add_folder(delta)
    delta.add_argument(
        "--model",
        type=Path,
        action="append",
        metavar="FILE",
        help="this .onnx or .tflite file instead; may be repeated",
    )
    delta.add_argument("--change", action="append", metavar="NAME", help="only this change; may be repeated")
    delta.add_argument("--out", type=Path, metavar="FILE.json")
    delta.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE.md",
        help="write the tables; between its markers where the file is there and has them",
    )
    delta.set_defaults(run=run_delta)
    fetch = commands.add_parser("delta-models", help="fetch the models of packages on PyPI")
    _add_folder(fetch)
    fetch.set_defaults(run=run_fetch)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        default=packages.DEFAULT_FOLDER,
        help="where the models are (default: %(default)s)",
    )


def run_fetch(options: argparse.Namespace) -> None:
    """Fetch what is not there."""
    packages.install(options.models, tell)


def run_delta(options: argparse.Namespace) -> None:
    """Measure, show and write."""
    from hw_bench.delta.bench import ALL_CHANGES, DeltaReport, measure  # noqa: PLC0415 - brings NumPy
    from hw_bench.delta.table import markdown  # noqa: PLC0415

    if options.markdown is not None:
        with_tables(options.markdown, "", BEGIN, END)  # refused before minutes of measuring, not after
    unknown = sorted(set(options.change or ()) - set(ALL_CHANGES))
    if unknown:
        raise SubjectError(f"--change {unknown[0]}: allowed are {', '.join(ALL_CHANGES)}")
    chosen, origins, absent = _chosen(options)
    report = DeltaReport(
        machine=machine(),
        packages=_versions(),
        command=_command(options),
        made=datetime.now(UTC).strftime("%Y-%m-%d"),
        models=origins,
        rows=measure(chosen, tell, options.change or ALL_CHANGES),
        absent=absent,
    )
    text = markdown(report)
    print(text)  # noqa: T201 - a command prints
    if options.out is not None:
        options.out.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if options.markdown is not None:
        options.markdown.write_text(with_tables(options.markdown, text, BEGIN, END), encoding="utf-8")


def _chosen(options: argparse.Namespace) -> "tuple[list[Subject], dict[str, str], dict[str, str]]":
    from hw_bench.delta.bench import Subject  # noqa: PLC0415

    if options.model:
        return [Subject(name=path.name, path=path) for path in options.model], {}, {}
    chosen, origins, absent = [], {}, {}
    for model in packages.MODELS:
        try:
            earlier = None if model.earlier is None else packages.path_of(options.models, model.earlier)
            path = packages.path_of(options.models, model)
        except AbsentError as error:
            absent[model.name] = str(error)
            continue
        chosen.append(Subject(name=model.name, path=path, earlier=earlier))
        made = ", made int8 here by ONNX Runtime (dynamic)" if model.quantise else ""
        followed = "" if model.before is None else f"; the next version after {model.before}"
        origins[model.name] = f"`{path.name}` of {model.requirement} ({model.licence}){made}{followed}"
    return chosen, origins, absent


def _command(options: argparse.Namespace) -> str:
    """What makes these tables again; where somebody put the JSON beside them is no part of it."""
    words = ["python", "-m", "hw_bench", "delta"]
    if options.models != packages.DEFAULT_FOLDER:
        words += ["--models", str(options.models)]
    for path in options.model or ():
        words += ["--model", str(path)]
    for change in options.change or ():
        words += ["--change", change]
    if options.markdown is not None:
        words += ["--markdown", str(options.markdown)]
    return shlex.join(words)


def _versions() -> dict[str, str]:
    zstd = subprocess.run(["zstd", "--version"], capture_output=True, text=True, check=False).stdout
    command = next((word for word in zstd.split() if word.startswith("v")), "absent").strip("v,")
    names = ("zstandard", "bsdiff4", "detools", "numpy")
    return {"Python": platform.python_version(), **{name: version(name) for name in names}, "zstd": command}
