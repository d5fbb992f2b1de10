"""Releases of a model named ``digits`` whose evidence is complete; the model files are bytes that nobody runs."""

import hashlib
from collections.abc import Callable

import msgspec

from agent.drift.reference import SignalSpec, build_reference, encode_reference
from agent.protocol.evidence import (
    BenchReport,
    Calibration,
    Evaluation,
    ScenarioResult,
    SliceResult,
    VariantEvaluation,
    VariantMemory,
)
from agent.protocol.manifest import (
    ArtifactRef,
    Budget,
    Evidence,
    GoldenRef,
    Lineage,
    Manifest,
    Probation,
    TensorSpec,
    Variant,
)

HARDWARE = "x86-64"
DATASET = hashlib.sha256(b"dataset").hexdigest()
VARIANTS = {"onnx-fp32": "fp32", "onnx-int8": "int8"}
ROWS = 600


def reference() -> bytes:
    """A drift reference with one signal: the mean of ``image``, uniform over 0-1."""
    import numpy as np

    spec = SignalSpec(name="image.mean", source="input", tensor="image", summary="mean", bins=10)
    image = np.linspace(0.0, 1.0, ROWS, dtype=np.float32).reshape(ROWS, 1)
    return encode_reference(
        build_reference([spec], inputs={"image": image}, outputs={}, dataset_sha256=DATASET)
    )


def evaluation(variants: tuple[str, ...] = tuple(VARIANTS)) -> Evaluation:
    return Evaluation(
        dataset="digits-held-out",
        dataset_sha256=DATASET,
        variants=tuple(
            VariantEvaluation(
                variant=name,
                rows=100,
                accuracy=0.95,
                slices=(SliceResult(name="0", rows=10, accuracy=0.9),),
                calibration=Calibration(
                    bins=10, expected_calibration_error=0.02, maximum_calibration_error=0.1
                ),
                robustness={"blur": 0.7},
            )
            for name in variants
        ),
    )


def bench(artifacts: dict[str, str], p50_us: dict[str, float], hardware_class: str = HARDWARE) -> BenchReport:
    return BenchReport(
        hardware_class=hardware_class,
        machine="a test",
        packages={},
        model="digits",
        artifacts=artifacts,
        scenarios=tuple(
            ScenarioResult(
                scenario="single-stream",
                variant=name,
                queries=100,
                rows_per_query=1,
                p50_us=p50,
                p90_us=p50 * 2,
                p95_us=p50 * 2,
                p99_us=p50 * 3,
                rows_per_second=1e6 / p50,
            )
            for name, p50 in p50_us.items()
        ),
        memory=tuple(VariantMemory(variant=name, pss_mib=40, peak_pss_mib=45) for name in p50_us),
    )


def _ref(files: dict[str, bytes], filename: str) -> ArtifactRef:
    data = files[filename]
    return ArtifactRef(filename=filename, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def release_files(
    release: int = 1,
    *,
    p50_us: dict[str, float] | None = None,
    change: Callable[[dict[str, bytes]], None] | None = None,
    rewrite: Callable[[Manifest], Manifest] | None = None,
) -> dict[str, bytes]:
    """File name → bytes, the manifest last.

    ``change`` may alter files before the manifest names their hashes, ``rewrite`` the manifest itself.
    """
    files = {f"{name}.onnx": f"{name} of release {release}".encode() * 4000 for name in VARIANTS}
    digests = {name: hashlib.sha256(files[f"{name}.onnx"]).hexdigest() for name in VARIANTS}
    files |= {
        "golden.msgpack": b"golden",
        "reference.json": reference(),
        "card.md": b"# digits\n",
        "evaluation.json": msgspec.json.encode(evaluation()),
        "bench.json": msgspec.json.encode(bench(digests, p50_us or {"onnx-fp32": 20.0, "onnx-int8": 10.0})),
    }
    if change:
        change(files)
    manifest = _manifest(release, files)
    if rewrite:
        manifest = rewrite(manifest)
    return {**files, "manifest.json": msgspec.json.encode(manifest)}


def _manifest(release: int, files: dict[str, bytes]) -> Manifest:
    return Manifest(
        schema=1,
        model="digits",
        release=release,
        created=1.0,
        author="dora",
        summary="A test release.",
        task="classification",
        labels=tuple("0123456789"),
        inputs=(TensorSpec(name="image", datatype="FP32", shape=(-1, 1)),),
        outputs=(TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 10)),),
        preprocessing="none",
        variants=tuple(
            Variant(
                name=name,
                runtime="onnx",
                precision="int8" if precision == "int8" else "fp32",
                artifact=_ref(files, f"{name}.onnx"),
                accuracy=0.95,
            )
            for name, precision in VARIANTS.items()
        ),
        budgets={HARDWARE: Budget(p99_ms=100, peak_memory_mib=500)},
        golden=GoldenRef(
            artifact=_ref(files, "golden.msgpack"), absolute_tolerance=0.1, minimum_class_agreement=1.0
        ),
        drift_reference=_ref(files, "reference.json"),
        probation=Probation(requests=10),
        evidence=Evidence(
            card=_ref(files, "card.md"),
            evaluation=_ref(files, "evaluation.json"),
            bench=(_ref(files, "bench.json"),),
        ),
        lineage=Lineage(datasets={"digits": DATASET}, recipe="a test", code_version="0", packages={}),
    )
