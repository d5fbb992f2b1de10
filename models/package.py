"""Writes ``manifest.json``: the contract of one release, from what stands in its folder."""

import shutil
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from agent.protocol.codec import decode_json, decode_msgpack
from agent.protocol.errors import ProtocolError
from agent.protocol.evidence import BenchReport, Evaluation
from agent.protocol.golden import GoldenVectors
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.limits import MAX_MANIFEST_BYTES
from agent.protocol.manifest import (
    SCHEMA,
    ArtifactRef,
    Budget,
    Evidence,
    GoldenRef,
    Lineage,
    Manifest,
    Parent,
    Probation,
    Variant,
    decode_manifest,
)
from models.description import (
    CARD_FILENAME,
    EVALUATION_FILENAME,
    GOLDEN_FILENAME,
    REFERENCE_FILENAME,
    Description,
    read_description,
    sha256_of,
    write_json,
)
from models.errors import MissingEvidenceError, ReleaseFolderError

T = TypeVar("T", bound=Struct)


class PackageRequest(Struct, frozen=True, kw_only=True):
    """What a person decides about a release; the folder knows the rest."""

    release: int
    budgets: dict[str, Budget]
    """Hardware class → budget."""
    created: float
    """Unix seconds."""
    author: str
    summary: str | None = None
    """None takes the recipe's."""
    bench: tuple[Path, ...] = ()
    """Bench reports to take into the folder, beside those that stand there."""
    probation: Probation = Probation()
    parent: Parent | None = None
    """The release that this one replaces."""
    distilled_from: Parent | None = None
    """The teacher's release; needed where the recipe does not know it."""


def bench_filename(hardware_class: str) -> str:
    """Where a bench report stands in a release folder."""
    return f"bench-{hardware_class}.json"


def package(folder: Path, request: PackageRequest) -> Manifest:
    """Write ``manifest.json`` into ``folder`` and give it back as a device would decode it.

    Raises:
        ReleaseFolderError: the folder lacks a model file, or holds a file that can't be read.
        MissingEvidenceError: evidence is missing, or belongs to other files than those that stand here.
    """
    description = read_description(folder)
    for path in request.bench:
        _take_bench(folder, path)
    evaluation = _evaluation(folder, description)
    _check_golden(folder, description)
    manifest = Manifest(
        schema=SCHEMA,
        model=description.model,
        release=request.release,
        created=request.created,
        author=request.author,
        summary=request.summary or description.summary,
        task="classification",
        labels=description.labels,
        inputs=description.inputs,
        outputs=description.outputs,
        preprocessing=description.preprocessing,
        variants=_variants(folder, description, evaluation),
        budgets=request.budgets,
        golden=GoldenRef(
            artifact=_artifact(folder, GOLDEN_FILENAME, "golden vectors"),
            absolute_tolerance=description.golden_tolerance,
            minimum_class_agreement=description.golden_class_agreement,
        ),
        drift_reference=_artifact(folder, REFERENCE_FILENAME, "a drift reference"),
        probation=request.probation,
        evidence=Evidence(
            card=_artifact(folder, CARD_FILENAME, "a model card"),
            evaluation=_artifact(folder, EVALUATION_FILENAME, "an evaluation"),
            bench=tuple(_bench(folder, description, name) for name in sorted(request.budgets)),
        ),
        lineage=_lineage(description, request),
    )
    path = folder / MANIFEST_FILENAME
    write_json(path, manifest)
    try:
        return decode_manifest(path.read_bytes())
    except ProtocolError as error:
        path.unlink()
        raise ReleaseFolderError(f"the manifest would be refused: {error}") from error


def _artifact(folder: Path, filename: str, what: str) -> ArtifactRef:
    path = folder / filename
    if not path.is_file():
        raise MissingEvidenceError(
            f"{folder} has no {filename}: a release needs {what}; run its recipe again"
        )
    return ArtifactRef(filename=filename, sha256=sha256_of(path), size=path.stat().st_size)


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return decode_json(path.read_bytes(), kind, limit=MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        raise MissingEvidenceError(f"{path} does not exist") from None
    except ProtocolError as error:
        raise ReleaseFolderError(f"{path}: {error}") from error


def _evaluation(folder: Path, description: Description) -> dict[str, float]:
    """Variant → accuracy on the held-out set."""
    _artifact(folder, EVALUATION_FILENAME, "an evaluation")
    evaluation = _decode(folder / EVALUATION_FILENAME, Evaluation)
    accuracies = {entry.variant: entry.accuracy for entry in evaluation.variants}
    _require_all(description, set(accuracies), folder / EVALUATION_FILENAME)
    return accuracies


def _check_golden(folder: Path, description: Description) -> None:
    _artifact(folder, GOLDEN_FILENAME, "golden vectors")
    path = folder / GOLDEN_FILENAME
    try:
        golden: GoldenVectors = decode_msgpack(path.read_bytes(), GoldenVectors)
    except ProtocolError as error:
        raise ReleaseFolderError(f"{path}: {error}") from error
    _require_all(description, set(golden.expected), path)


def _require_all(description: Description, found: set[str], path: Path) -> None:
    missing = sorted({variant.name for variant in description.variants} - found)
    if missing:
        raise MissingEvidenceError(f"{path} says nothing about {', '.join(missing)}; run the recipe again")


def _variants(folder: Path, description: Description, accuracies: dict[str, float]) -> tuple[Variant, ...]:
    return tuple(
        Variant(
            name=variant.name,
            runtime=variant.runtime,
            precision=variant.precision,
            artifact=_artifact(folder, variant.filename, f"the model file of {variant.name}"),
            opset=variant.opset,
            minimum_runtime=variant.minimum_runtime,
            accuracy=accuracies[variant.name],
        )
        for variant in description.variants
    )


def _take_bench(folder: Path, path: Path) -> None:
    report = _decode(path, BenchReport)
    target = folder / bench_filename(report.hardware_class)
    if path.resolve() != target.resolve():
        shutil.copyfile(path, target)


def _bench(folder: Path, description: Description, hardware_class: str) -> ArtifactRef:
    path = folder / bench_filename(hardware_class)
    command = f"python -m hw_bench run {folder} --hardware-class {hardware_class} --out {path}"
    if not path.is_file():
        raise MissingEvidenceError(
            f"{folder} has no bench of hardware class {hardware_class!r}; on such a device run: {command}"
        )
    report = _decode(path, BenchReport)
    if (report.model, report.hardware_class) != (description.model, hardware_class):
        raise MissingEvidenceError(
            f"{path} is about model {report.model!r} on {report.hardware_class!r}, "
            f"not {description.model!r} on {hardware_class!r}"
        )
    _require_all(description, {result.variant for result in report.scenarios}, path)
    for variant in description.variants:
        if report.artifacts.get(variant.name) != sha256_of(folder / variant.filename):
            raise MissingEvidenceError(
                f"{path} measured another file than {variant.filename}; measure again: {command}"
            )
    return _artifact(folder, path.name, "a bench report")


def _lineage(description: Description, request: PackageRequest) -> Lineage:
    distilled_from = request.distilled_from or description.distilled_from
    if description.teacher_sha256 and distilled_from is None:
        raise MissingEvidenceError(
            "this release was distilled, and nobody says from which release; name it: --distilled-from MODEL:RELEASE"
        )
    return Lineage(
        parent=request.parent,
        distilled_from=distilled_from,
        quantized_from=description.quantized_from,
        datasets=description.datasets,
        recipe=description.recipe,
        code_version=description.code_version,
        packages=description.packages,
    )
