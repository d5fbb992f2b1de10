"""What a release must show before approvers are asked to sign it; pure."""

from collections.abc import Callable
from typing import TypeVar

from agent.protocol.codec import decode_json
from agent.protocol.drift import DriftReference
from agent.protocol.errors import ProtocolError
from agent.protocol.evidence import BenchReport, Evaluation, ScenarioResult
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.manifest import ArtifactRef, Manifest, Variant
from cloud_hub.errors import EvidenceError
from cloud_hub.registry.artifacts import StoredArtifact

T = TypeVar("T")
EVIDENCE_LIMIT = 4 * 1024 * 1024
Read = Callable[[str], bytes]
"""Digest → bytes of an artifact that is known to be stored."""


def check_release(manifest: Manifest, files: dict[str, StoredArtifact], read: Read) -> None:
    """Check files, card, evaluation, drift reference, benches and lineage of a release.

    Raises:
        EvidenceError: the first thing that is missing or speaks against the release, in words.
    """
    _check_files(manifest, files)
    if not read(manifest.evidence.card.sha256).strip():
        raise EvidenceError(f"{manifest.evidence.card.filename}: the model card is empty")
    _check_evaluation(manifest, read)
    _decode(manifest.drift_reference, DriftReference, read)
    benches = [_decode(reference, BenchReport, read) for reference in manifest.evidence.bench]
    _check_benches(manifest, benches)
    if not manifest.lineage.datasets:
        raise EvidenceError("lineage.datasets: name the dataset the release was made from, and its SHA-256")


def _check_files(manifest: Manifest, files: dict[str, StoredArtifact]) -> None:
    named = {artifact.filename: artifact for artifact in manifest.artifacts()}
    for filename, artifact in named.items():
        stored = files.get(filename)
        if stored is None:
            raise EvidenceError(f"{filename}: the manifest names it, but it was not uploaded")
        if (stored.sha256, stored.size) != (artifact.sha256, artifact.size):
            raise EvidenceError(
                f"{filename}: the manifest says {artifact.size} bytes with SHA-256 {artifact.sha256}, "
                f"uploaded were {stored.size} bytes with {stored.sha256}"
            )
    extra = sorted(files.keys() - named.keys() - {MANIFEST_FILENAME})
    if extra:
        raise EvidenceError(f"{', '.join(extra)}: uploaded, but the manifest does not name it")


def _check_evaluation(manifest: Manifest, read: Read) -> None:
    evaluation = _decode(manifest.evidence.evaluation, Evaluation, read)
    results = {result.variant: result for result in evaluation.variants}
    where = manifest.evidence.evaluation.filename
    for variant in manifest.variants:
        result = results.get(variant.name)
        if result is None:
            raise EvidenceError(f"{where}: no evaluation of variant {variant.name}")
        if not result.slices:
            raise EvidenceError(f"{where}: variant {variant.name} is not evaluated by slices")
        if result.calibration.bins < 1:
            raise EvidenceError(f"{where}: variant {variant.name} has no calibration")
        if abs(result.accuracy - variant.accuracy) > 1e-6:  # noqa: PLR2004 - rounding of a JSON number
            raise EvidenceError(
                f"{where}: variant {variant.name} has accuracy {result.accuracy}, the manifest says {variant.accuracy}"
            )


def _check_benches(manifest: Manifest, benches: list[BenchReport]) -> None:
    for hardware_class in sorted(manifest.budgets):
        mine = [bench for bench in benches if bench.hardware_class == hardware_class]
        if not mine:
            raise EvidenceError(
                f"evidence.bench: no bench report of the declared hardware class {hardware_class}"
            )
        for bench in mine:
            _check_bench(manifest, bench)


def _check_bench(manifest: Manifest, bench: BenchReport) -> None:
    where = f"bench of {bench.hardware_class}"
    if bench.model != manifest.model:
        raise EvidenceError(f"{where}: it measured model {bench.model}, not {manifest.model}")
    latency: dict[str, float] = {}
    for variant in manifest.variants:
        if bench.artifacts.get(variant.name) != variant.artifact.sha256:
            raise EvidenceError(
                f"{where}: for variant {variant.name} it measured "
                f"{bench.artifacts.get(variant.name, 'nothing')}, not this release's file {variant.artifact.sha256}"
            )
        latency[variant.name] = _single_stream(bench, variant, where).p50_us
    _refuse_slow_int8(manifest, latency, where)


def _single_stream(bench: BenchReport, variant: Variant, where: str) -> ScenarioResult:
    for result in bench.scenarios:
        if result.variant == variant.name and result.scenario == "single-stream":
            return result
    raise EvidenceError(f"{where}: no single-stream result of variant {variant.name}")


def _refuse_slow_int8(manifest: Manifest, p50_us: dict[str, float], where: str) -> None:
    """An int8 variant is there to be cheaper: one that is slower than fp32 on the same board is refused."""
    for runtime in sorted({variant.runtime for variant in manifest.variants}):
        same = [variant for variant in manifest.variants if variant.runtime == runtime]
        floats = [p50_us[variant.name] for variant in same if variant.precision == "fp32"]
        for variant in same:
            if variant.precision == "int8" and floats and p50_us[variant.name] > min(floats):
                raise EvidenceError(
                    f"{where}: variant {variant.name} (int8) takes {p50_us[variant.name]:.1f} µs at p50, slower than "
                    f"the fp32 variant's {min(floats):.1f} µs; leave it out or make it faster"
                )


def _decode(reference: ArtifactRef, kind: type[T], read: Read) -> T:
    try:
        return decode_json(read(reference.sha256), kind, limit=EVIDENCE_LIMIT)
    except ProtocolError as error:
        raise EvidenceError(f"{reference.filename}: {error}") from error
