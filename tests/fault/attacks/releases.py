"""Releases that are real and tiny: release ``n`` of a model answers ``n · x``, so that an answer says who gave it."""

import hashlib

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from agent.protocol.drift import DriftPolicy, DriftReference, SignalReference
from agent.protocol.golden import GoldenVectors, Tensor
from agent.protocol.ids import MANIFEST_FILENAME
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
from tests.contract.runner.tiny_models import onnx_bytes

HARDWARE_CLASS = "cpu-test"
VARIANT = "onnx-fp32"
MODEL_FILE = "model.onnx"
ROW = [1.0, 2.0, 3.0, 4.0]
BALLAST_BYTES = 200 * 1024
"""Constants that a model carries along: its file takes several blocks to fetch."""


def content(model: str, release: int, *, ballast: int = BALLAST_BYTES) -> dict[str, bytes]:
    """File name → bytes of a whole release, the manifest last."""
    x = np.arange(32, dtype=np.float32).reshape(8, 4)
    tensor = Tensor(name="x", datatype="FP32", shape=(8, 4), data=x.tobytes())
    answer = Tensor(name="y", datatype="FP32", shape=(8, 4), data=(x * release).tobytes())
    signal = SignalReference(
        name="x-mean",
        source="input",
        tensor="x",
        summary="mean",
        edges=(0.0, 1.0),
        counts=(0, 100, 0),
        missing=0,
    )
    reference = DriftReference(
        schema=1, dataset_sha256="0" * 64, rows=100, signals=(signal,), policy=DriftPolicy()
    )
    files = {
        MODEL_FILE: times(release, of=model, ballast=ballast),
        "golden.msgpack": msgspec.msgpack.encode(
            GoldenVectors(inputs=(tensor,), expected={VARIANT: (answer,)})
        ),
        "reference.json": msgspec.json.encode(reference),
        "card.md": b"# Times\n",
        "evaluation.json": b"{}",
        "bench.json": b"{}",
    }
    return {**files, MANIFEST_FILENAME: msgspec.json.encode(manifest(model, release, files))}


def manifest(model: str, release: int, files: dict[str, bytes]) -> Manifest:
    """The contract of a release of these files."""
    refs = {name: reference_to(name, data) for name, data in files.items()}
    variant = Variant(
        name=VARIANT, runtime="onnx", precision="fp32", artifact=refs[MODEL_FILE], accuracy=0.99
    )
    return Manifest(
        schema=1,
        model=model,
        release=release,
        created=1_700_000_000.0,
        author="Mallory",
        summary="Multiplies.",
        task="classification",
        preprocessing="None.",
        lineage=Lineage(datasets={}, recipe="none", code_version="0", packages={}),
        labels=(),
        inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),),
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 4)),),
        variants=(variant,),
        budgets={HARDWARE_CLASS: Budget(p99_ms=250.0, peak_memory_mib=400.0)},
        golden=GoldenRef(
            artifact=refs["golden.msgpack"], absolute_tolerance=1e-4, minimum_class_agreement=1.0
        ),
        drift_reference=refs["reference.json"],
        probation=Probation(requests=1),
        evidence=Evidence(
            card=refs["card.md"], evaluation=refs["evaluation.json"], bench=(refs["bench.json"],)
        ),
    )


def times(release: int, *, of: str = "digits", ballast: int = BALLAST_BYTES) -> bytes:
    """``y = release · x``, an ONNX file; its ballast differs from release to release and from model to model."""
    weight = np.random.default_rng((release, *of.encode())).bytes(ballast)
    return onnx_bytes(
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
        [
            numpy_helper.from_array(np.array(release, np.float32), "k"),
            numpy_helper.from_array(np.frombuffer(weight, np.uint8), "ballast"),
        ],
    )


def reference_to(name: str, data: bytes) -> ArtifactRef:
    return ArtifactRef(filename=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
