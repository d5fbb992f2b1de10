"""The manifest: the signed contract of one release.

It is strict: a field that this schema does not know is refused by name, since a contract that is half understood
is not kept. Artifacts are content-addressed; each is also a TUF target ``models/<model>/<release>/<filename>``.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.codec import decode_json
from agent.protocol.errors import MalformedMessageError, NewerSchemaError
from agent.protocol.ids import Name, Sha256, UnixTime, Version
from agent.protocol.limits import MAX_MANIFEST_BYTES

SCHEMA = 1

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
"""Open Inference Protocol data types."""

Runtime = Literal["onnx", "tflite"]
Precision = Literal["fp32", "fp16", "int8"]
Filename = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)")]
Positive = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(gt=0, le=2**53)]
Fraction = Annotated[float, Meta(ge=0, le=1)]


class ArtifactRef(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of the release."""

    filename: Filename
    sha256: Sha256
    size: PositiveInt
    """Bytes."""


class TensorSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One named tensor; ``-1`` in ``shape`` is a dynamic dimension (the first one: the batch)."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    datatype: Datatype
    shape: Annotated[tuple[Annotated[int, Meta(ge=-1)], ...], Meta(max_length=8)]


class Variant(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of the release for one runtime and precision."""

    name: Name
    """For instance ``onnx-int8``."""
    runtime: Runtime
    precision: Precision
    artifact: ArtifactRef
    opset: PositiveInt | None = None
    """ONNX opset, or TFLite schema version."""
    minimum_runtime: str | None = None
    accuracy: Fraction
    """On the held-out set named in the evidence."""


class ServiceLevel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a committed release is held to while it serves, over a rolling span of whole requests."""

    p99_ms: Positive
    """99th percentile of a request as served, from its last byte to its answer: waiting its turn, decoding and encoding
    included, milliseconds."""
    maximum_failure_rate: Fraction = 0.01
    """The model's failures, missed deadlines, and requests turned away because too many were waiting, as a share of all."""
    minimum_requests: Annotated[int, Meta(ge=1, le=2**53)] = 100
    """Below it there is no verdict; below 100, the p99 is the slowest but one at most."""
    seconds: Annotated[float, Meta(gt=0, le=86_400)] = 300.0
    """The rolling span."""


class Budget(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a variant may cost on one hardware class, measured on the device before it serves."""

    p99_ms: Positive
    """Latency of one request of one row, 99th percentile, milliseconds."""
    peak_memory_mib: Positive
    """PSS of the runner process, peak over the probe, MiB."""
    slo: ServiceLevel | None = None
    """The service level objective, judged while the release serves; a device that has a smaller variant falls back to
    it when this is broken for long."""


class GoldenRef(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Golden vectors: inputs with each variant's expected outputs (:mod:`agent.protocol.golden`)."""

    artifact: ArtifactRef
    absolute_tolerance: Annotated[float, Meta(ge=0)]
    """Largest allowed |difference| of any output element."""
    minimum_class_agreement: Fraction
    """Smallest allowed share of rows whose arg-max equals the expected one (classifiers)."""


class Probation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The evidence that ends probation (:mod:`agent.core.probation`): this many answered requests, or rollback.

    NaN for finite inputs, a runner that exits, and requests over the p99 of the hardware class's service level always fail it.
    """

    requests: Annotated[int, Meta(ge=1)] = 50
    maximum_failure_rate: Fraction = 0.0
    """Failures that are the model's (inference errors, missed deadlines), as a share of requests."""
    minimum_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """It lasts at least so long, however many requests come: what breaks with time has time to."""
    maximum_seconds: Positive = 86_400.0
    """Without enough requests by then, health alone decides: no failure, and the golden outputs are right once more."""
    drift: Literal["roll-back", "ignore"] = "roll-back"
    """What a closed window with drift does to a release on probation."""


class Evidence(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What approvers read before they sign; a release cannot be approved without all of it."""

    card: ArtifactRef
    """Model card, Markdown."""
    evaluation: ArtifactRef
    """:class:`agent.protocol.evidence.Evaluation` as JSON: accuracy, slices, calibration, robustness."""
    bench: tuple[ArtifactRef, ...]
    """:class:`agent.protocol.evidence.BenchReport` as JSON, at least one for each declared hardware class."""


class Parent(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: Name
    release: Version


class Lineage(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the release comes from."""

    parent: Parent | None = None
    distilled_from: Parent | None = None
    quantized_from: Sha256 | None = None
    """Digest of the float model file."""
    datasets: dict[str, Sha256]
    """Dataset name → SHA-256 of its canonical bytes."""
    recipe: str
    """Command that made the release."""
    code_version: str
    packages: dict[str, str]
    """Package → version that made it."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The contract of one release."""

    schema: Annotated[int, Meta(ge=1)]
    model: Name
    release: Version
    created: UnixTime
    author: Annotated[str, Meta(min_length=1, max_length=128)]
    summary: Annotated[str, Meta(max_length=500)]
    """One or two plain sentences: what changed and why."""
    task: Literal["classification"]
    labels: tuple[str, ...]
    inputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    preprocessing: str
    """What a client must do to raw data before it is sent, in words and units."""
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1)]
    budgets: Annotated[dict[Name, Budget], Meta(min_length=1)]
    """Hardware class → budget. A device whose class is not here refuses the release."""
    golden: GoldenRef
    drift_reference: ArtifactRef
    """:class:`agent.protocol.drift.DriftReference` as JSON."""
    probation: Probation
    evidence: Evidence
    lineage: Lineage

    def artifacts(self) -> tuple[ArtifactRef, ...]:
        """Every file the manifest names, in a fixed order."""
        variants = tuple(variant.artifact for variant in self.variants)
        evidence = (self.evidence.card, self.evidence.evaluation, *self.evidence.bench)
        return (*variants, self.golden.artifact, self.drift_reference, *evidence)

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            KeyError: the release has none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise KeyError(name)


class _SchemaOnly(Struct):
    schema: int


def decode_manifest(payload: bytes) -> Manifest:
    """Decode and check a manifest.

    Raises:
        NewerSchemaError: written for a newer schema; the text names it and the one known here.
        MalformedMessageError: a field is missing, unknown or breaks its rule, or names collide.
    """
    schema = decode_json(payload, _SchemaOnly, limit=MAX_MANIFEST_BYTES).schema
    if schema > SCHEMA:
        raise NewerSchemaError(
            f"Manifest: schema {schema} is newer than {SCHEMA}, the newest this program knows; update Edgeward first"
        )
    manifest = decode_json(payload, Manifest, limit=MAX_MANIFEST_BYTES)
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    files = [artifact.filename for artifact in manifest.artifacts()]
    _unique(files, "file names")
    _unique([variant.name for variant in manifest.variants], "variants")
    _unique([tensor.name for tensor in manifest.inputs], "inputs")
    _unique([tensor.name for tensor in manifest.outputs], "outputs")
    probation = manifest.probation
    if probation.minimum_seconds > probation.maximum_seconds:
        raise MalformedMessageError(
            f"Manifest: probation.minimum_seconds is {probation.minimum_seconds:g}, over maximum_seconds,"
            f" {probation.maximum_seconds:g}"
        )
    for hardware_class, budget in sorted(manifest.budgets.items()):
        if budget.slo is not None and budget.slo.p99_ms < budget.p99_ms:
            raise MalformedMessageError(
                f"Manifest: budgets.{hardware_class}.slo.p99_ms is {budget.slo.p99_ms:g}: whole requests can't be held to "
                f"less than the model alone may take (p99_ms, {budget.p99_ms:g})"
            )


def _unique(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MalformedMessageError(f"Manifest: {what} must differ, these stand twice: {', '.join(twice)}")
