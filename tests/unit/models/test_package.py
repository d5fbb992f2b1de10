"""A manifest is written from a whole folder, and from no other."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.protocol.codec import decode_json, decode_msgpack, encode_msgpack
from agent.protocol.evidence import BenchReport, Evaluation, ScenarioResult, VariantMemory
from agent.protocol.golden import GoldenVectors
from agent.protocol.manifest import Budget, Parent, Probation, decode_manifest
from models.description import read_description, sha256_of, write_json
from models.errors import MissingEvidenceError, ReleaseFolderError
from models.package import PackageRequest, package

BUDGET = Budget(p99_ms=50.0, peak_memory_mib=200.0)
REQUEST = PackageRequest(
    release=2,
    budgets={"camera": BUDGET},
    created=1_700_000_000.0,
    author="ada",
    probation=Probation(requests=20),
    parent=Parent(model="digits", release=1),
    distilled_from=Parent(model="digits", release=1),
)


def _bench(folder: Path, hardware_class: str = "camera") -> BenchReport:
    """A report with invented figures: packaging reads only what it is about."""
    variants = read_description(folder).variants
    return BenchReport(
        hardware_class=hardware_class,
        machine="test",
        packages={},
        model="digits",
        artifacts={entry.name: sha256_of(folder / entry.filename) for entry in variants},
        scenarios=tuple(
            ScenarioResult(
                scenario="single-stream",
                variant=entry.name,
                queries=1,
                rows_per_query=1,
                p50_us=1.0,
                p90_us=1.0,
                p95_us=1.0,
                p99_us=1.0,
                rows_per_second=1.0,
            )
            for entry in variants
        ),
        memory=tuple(VariantMemory(variant=entry.name, pss_mib=1.0, peak_pss_mib=1.0) for entry in variants),
    )


@pytest.fixture
def folder(student_folder: Path, tmp_path: Path) -> Path:
    """A student's folder with a bench, to be changed freely."""
    copy = tmp_path / "release"
    shutil.copytree(student_folder, copy)
    write_json(copy / "bench-camera.json", _bench(copy))
    return copy


def test_the_manifest_names_every_file_as_it_is(folder: Path) -> None:
    manifest = package(folder, REQUEST)
    assert decode_manifest((folder / "manifest.json").read_bytes()) == manifest
    assert (manifest.model, manifest.release, manifest.author) == ("digits", 2, "ada")
    assert [variant.name for variant in manifest.variants] == ["onnx-int8", "tflite-int8"]
    for artifact in manifest.artifacts():
        assert artifact.sha256 == sha256_of(folder / artifact.filename)
        assert artifact.size == (folder / artifact.filename).stat().st_size
    evaluation = decode_json((folder / "evaluation.json").read_bytes(), Evaluation)
    assert {variant.name: variant.accuracy for variant in manifest.variants} == {
        entry.variant: entry.accuracy for entry in evaluation.variants
    }
    assert manifest.budgets == {"camera": BUDGET}
    assert manifest.probation.requests == 20
    assert manifest.lineage.parent == manifest.lineage.distilled_from == Parent(model="digits", release=1)
    assert set(manifest.lineage.datasets) == {"digits-train", "digits-calibration", "digits-held-out"}


@pytest.mark.parametrize(
    ("filename", "words"),
    [
        ("card.md", "has no card.md: a release needs a model card"),
        ("evaluation.json", "has no evaluation.json: a release needs an evaluation"),
        ("golden.msgpack", "has no golden.msgpack: a release needs golden vectors"),
        ("reference.json", "has no reference.json: a release needs a drift reference"),
        ("digits-int8.tflite", "a release needs the model file of tflite-int8"),
        (
            "bench-camera.json",
            "has no bench of hardware class 'camera'; on such a device run: python -m hw_bench",
        ),
    ],
)
def test_missing_evidence_is_refused_by_name(folder: Path, filename: str, words: str) -> None:
    (folder / filename).unlink()
    with pytest.raises(MissingEvidenceError) as refusal:
        package(folder, REQUEST)
    assert words in str(refusal.value)
    assert not (folder / "manifest.json").exists()


def test_a_bench_of_every_declared_hardware_class_is_needed(folder: Path) -> None:
    request = msgspec.structs.replace(REQUEST, budgets={"camera": BUDGET, "gateway": BUDGET})
    with pytest.raises(MissingEvidenceError, match="no bench of hardware class 'gateway'"):
        package(folder, request)
    outside = folder.parent / "measured.json"
    write_json(outside, _bench(folder, "gateway"))
    manifest = package(folder, msgspec.structs.replace(request, bench=(outside,)))
    assert [entry.filename for entry in manifest.evidence.bench] == [
        "bench-camera.json",
        "bench-gateway.json",
    ]


def test_a_bench_of_another_file_is_refused(folder: Path) -> None:
    with (folder / "digits-int8.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(
        MissingEvidenceError, match=r"measured another file than digits-int8\.onnx; measure again"
    ):
        package(folder, REQUEST)


def test_a_bench_of_another_model_or_class_is_refused(folder: Path) -> None:
    for change in ({"model": "letters"}, {"hardware_class": "gateway"}):
        write_json(folder / "bench-camera.json", msgspec.structs.replace(_bench(folder), **change))
        with pytest.raises(MissingEvidenceError, match="not 'digits' on 'camera'"):
            package(folder, REQUEST)


def _forget_in_bench(folder: Path) -> None:
    report = _bench(folder)
    write_json(folder / "bench-camera.json", msgspec.structs.replace(report, scenarios=report.scenarios[:1]))


def _forget_in_evaluation(folder: Path) -> None:
    path = folder / "evaluation.json"
    evaluation = decode_json(path.read_bytes(), Evaluation)
    write_json(path, msgspec.structs.replace(evaluation, variants=evaluation.variants[:1]))


def _forget_in_golden(folder: Path) -> None:
    path = folder / "golden.msgpack"
    golden: GoldenVectors = decode_msgpack(path.read_bytes(), GoldenVectors)
    expected = {"onnx-int8": golden.expected["onnx-int8"]}
    path.write_bytes(encode_msgpack(msgspec.structs.replace(golden, expected=expected)))


@pytest.mark.parametrize("forget", [_forget_in_bench, _forget_in_evaluation, _forget_in_golden])
def test_evidence_speaks_of_every_variant(folder: Path, forget: Callable[[Path], None]) -> None:
    forget(folder)
    with pytest.raises(MissingEvidenceError, match="says nothing about tflite-int8"):
        package(folder, REQUEST)


def test_a_distilled_release_names_its_teacher(folder: Path) -> None:
    with pytest.raises(MissingEvidenceError, match="--distilled-from MODEL:RELEASE"):
        package(folder, msgspec.structs.replace(REQUEST, distilled_from=None))


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / "evaluation.json").write_text("{}")
    with pytest.raises(ReleaseFolderError, match=r"evaluation.json: Evaluation: .*missing required field"):
        package(folder, REQUEST)


def test_damaged_golden_vectors_are_named(folder: Path) -> None:
    (folder / "golden.msgpack").write_bytes(b"\xc1")
    with pytest.raises(ReleaseFolderError, match=r"golden\.msgpack: GoldenVectors: "):
        package(folder, REQUEST)


def test_what_a_device_would_refuse_is_not_written(folder: Path) -> None:
    with pytest.raises(ReleaseFolderError, match="the manifest would be refused"):
        package(folder, msgspec.structs.replace(REQUEST, summary="x" * 501))
    assert not (folder / "manifest.json").exists()


def test_no_release_folder(tmp_path: Path) -> None:
    with pytest.raises(ReleaseFolderError, match="is not a release folder"):
        package(tmp_path, REQUEST)
