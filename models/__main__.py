"""``python -m models``: run a recipe, package what it made, or spoil a copy of it for a rehearsal."""

import argparse
import getpass
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agent.protocol.codec import decode_json
from agent.protocol.errors import ProtocolError
from agent.protocol.evidence import Evaluation
from agent.protocol.ids import is_name
from agent.protocol.manifest import Budget, Parent, Probation, ServiceLevel
from models.description import EVALUATION_FILENAME, Description
from models.errors import RecipeError
from models.fault_kinds import FAULT_KINDS
from models.package import PackageRequest, package
from models.reference.command import add_reference

SLO_FACTOR = 4
"""Service level's p99 of whole requests, unless another is given, over the budget's of the model alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it is done, 1 when it is refused (the reason on stderr), 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (RecipeError, ProtocolError) as error:
        print(f"models: {error}", file=sys.stderr)
        return 1
    return 0


def _teacher(options: argparse.Namespace) -> None:
    from models.digits.teacher import make_teacher  # noqa: PLC0415 - scikit-learn takes a second to import

    _report(options.out, make_teacher(options.out))


def _student(options: argparse.Namespace) -> None:
    from models.digits.student import make_student  # noqa: PLC0415 - as above

    _report(options.out, make_student(options.teacher, options.out))


def _fault(options: argparse.Namespace) -> None:
    from models.faults import make_fault  # noqa: PLC0415 - as above

    description = make_fault(options.kind, options.source, options.out, delay_ms=options.delay_ms)
    print(
        f"{options.out}: {options.kind} in {', '.join(variant.filename for variant in description.variants)}"
    )


def _package(options: argparse.Namespace) -> None:
    budget = Budget(p99_ms=options.p99_ms, peak_memory_mib=options.memory_mib, slo=_service_level(options))
    request = PackageRequest(
        release=options.release,
        budgets=dict.fromkeys(options.hardware_class, budget),
        created=float(int(time.time())),
        author=options.author,
        summary=options.summary,
        bench=tuple(options.bench),
        probation=Probation(
            requests=options.probation_requests,
            minimum_seconds=options.probation_seconds,
            maximum_seconds=max(options.probation_longest_seconds, options.probation_seconds),
        ),
        parent=options.parent,
        distilled_from=options.distilled_from,
    )
    manifest = package(options.directory, request)
    size = sum(artifact.size for artifact in manifest.artifacts())
    print(
        f"{manifest.model} {manifest.release}: manifest.json names {len(manifest.artifacts())} files, {size:,} bytes"
    )


def _service_level(options: argparse.Namespace) -> ServiceLevel:
    """Whole requests wait their turn and are decoded and encoded, so they are given more than the model alone."""
    p99_ms = options.slo_p99_ms or SLO_FACTOR * options.p99_ms
    return ServiceLevel(
        p99_ms=p99_ms,
        maximum_failure_rate=options.slo_failure_rate,
        minimum_requests=options.slo_requests,
        seconds=options.slo_seconds,
    )


def _report(folder: Path, description: Description) -> None:
    evaluation = decode_json((folder / EVALUATION_FILENAME).read_bytes(), Evaluation)
    print(description.summary)
    for entry in evaluation.variants:
        error = entry.calibration.expected_calibration_error
        print(
            f"  {entry.variant}: accuracy {entry.accuracy:.3f} on {entry.rows} held-out scans, ECE {error:.3f}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    digits = commands.add_parser("digits", help="the handwritten digits recipe")
    steps = digits.add_subparsers(required=True, metavar="STEP")
    _add_steps(steps)
    _add_package(commands)
    add_reference(commands)
    return parser


def _add_steps(steps: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    teacher = steps.add_parser("teacher", help="train the teacher and write its release folder")
    teacher.add_argument("--out", type=Path, required=True, metavar="DIR")
    teacher.set_defaults(run=_teacher)
    student = steps.add_parser("student", help="distil and quantise a student and write its release folder")
    student.add_argument("--teacher", type=Path, required=True, metavar="DIR", help="the teacher's folder")
    student.add_argument("--out", type=Path, required=True, metavar="DIR")
    student.set_defaults(run=_student)
    fault = steps.add_parser("fault", help="copy a release folder and spoil its model files, for a rehearsal")
    fault.add_argument("--kind", choices=FAULT_KINDS, required=True)
    fault.add_argument("--from", dest="source", type=Path, required=True, metavar="DIR")
    fault.add_argument("--out", type=Path, required=True, metavar="DIR")
    fault.add_argument("--delay-ms", type=_positive, default=500.0, help="for too-slow; default 500")
    fault.set_defaults(run=_fault)


def _add_package(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("package", help="write manifest.json from what stands in a release folder")
    command.add_argument("directory", type=Path, metavar="DIR")
    command.add_argument("--release", type=_count, required=True, metavar="N")
    command.add_argument(
        "--hardware-class", type=_name, action="append", required=True, metavar="NAME", help="may be repeated"
    )
    command.add_argument("--p99-ms", type=_positive, required=True, metavar="X", help="budget of one request")
    _add_service_level(command)
    command.add_argument("--memory-mib", type=_positive, required=True, metavar="Y", help="budget, peak PSS")
    command.add_argument(
        "--bench",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="bench report to copy into DIR; those that stand there as bench-NAME.json are found; may be repeated",
    )
    _add_probation(command)
    command.add_argument(
        "--author", default=getpass.getuser(), metavar="NAME", help="default: your login name"
    )
    command.add_argument("--summary", metavar="TEXT", help="default: the recipe's sentence")
    command.add_argument("--parent", type=_parent, metavar="MODEL:RELEASE", help="the release it replaces")
    command.add_argument(
        "--distilled-from",
        type=_parent,
        metavar="MODEL:RELEASE",
        help="default: what the teacher's folder was packaged as when the student was made",
    )
    command.set_defaults(run=_package)


def _add_probation(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--probation-requests",
        type=_count,
        default=50,
        metavar="K",
        help="answered well before it is committed; default 50",
    )
    command.add_argument(
        "--probation-seconds",
        type=_seconds,
        default=10.0,
        metavar="S",
        help="shortest probation, however many ask; default 10",
    )
    command.add_argument(
        "--probation-longest-seconds",
        type=_positive,
        default=86_400.0,
        metavar="S",
        help="after which a healthy release that few ask is committed; default 86400",
    )


def _add_service_level(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--slo-p99-ms",
        type=_positive,
        metavar="X",
        help=f"service level of whole requests while it serves; default {SLO_FACTOR} times --p99-ms",
    )
    command.add_argument(
        "--slo-failure-rate", type=_fraction, default=0.01, metavar="SHARE", help="allowed, 0-1; default 0.01"
    )
    command.add_argument(
        "--slo-requests", type=_count, default=100, metavar="N", help="for a verdict; default 100"
    )
    command.add_argument(
        "--slo-seconds", type=_positive, default=300.0, metavar="S", help="rolling span; default 300"
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86_400:  # noqa: PLR2004 - a day, as the manifest allows
        raise argparse.ArgumentTypeError(f"{text}: a number from 0 to 86400 is needed")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: a share from 0 to 1 is needed")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a number over 0 is needed")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1 is needed")
    return value


def _name(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r}: 1-64 of a-z 0-9 . _ -, no separator at either end")
    return text


def _parent(text: str) -> Parent:
    model, separator, release = text.rpartition(":")
    if not separator or not is_name(model) or not release.isdecimal() or int(release) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected MODEL:RELEASE, for instance digits:1")
    return Parent(model=model, release=int(release))


if __name__ == "__main__":
    sys.exit(main())
