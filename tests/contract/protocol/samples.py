"""One sample for every message of the wire; ``golden/`` holds the bytes each had when it was taken.

``python -m tests.contract.protocol.samples`` writes the files that are missing. It never writes over one: what the
bytes of a released message are is not this program's to change. A message that changes on purpose gets a new sample
beside the old one, and the old one must go on decoding.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from agent.protocol import (
    access,
    bundle,
    control,
    enrolment,
    envelope,
    evidence,
    front,
    golden,
    labels,
    latency,
    ledger,
    receipt,
    runner,
    samples,
    state,
    telemetry,
    transfer,
    verification,
)
from agent.protocol.drift import (
    AccuracyEstimate,
    Alarm,
    Calibration,
    Components,
    CountPrivacy,
    DriftPolicy,
    DriftReference,
    DriftWindow,
    MovedSignal,
    SequentialPolicy,
    SignalCounts,
    SignalReference,
    SignalVerdict,
    SlicePolicy,
    Verdict,
    Withheld,
)
from agent.protocol.manifest import (
    ArtifactRef,
    Budget,
    Evidence,
    GoldenRef,
    Lineage,
    Manifest,
    Parent,
    Probation,
    ServiceLevel,
    TensorSpec,
    Variant,
)

GOLDEN = Path(__file__).parent / "golden"
Format = Literal["json", "hex"]


class Sample(Struct, frozen=True, kw_only=True):
    """One message, and what its receiver decodes it as."""

    name: str
    message: Any
    kind: Any
    """The message's struct, or the union of a stream."""
    format: Format
    """JSON, or msgpack written as hexadecimal digits."""

    @property
    def path(self) -> Path:
        return GOLDEN / f"{self.name}.{self.format}"


def _digest(digit: str) -> str:
    return digit * 64


REASON = state.Reason(code="golden-mismatch", text="an output differs by 0.5, allowed are 0.01")
ASSIGNMENT = state.Assignment(
    deployment="rollout-7.camera-1",
    variant_policy=state.VariantPolicy.SMALLEST,
    hold=True,
    shadow=state.ShadowPolicy(
        share=0.25, requests=500, seconds=3600.0, maximum_disagreement=0.02, tolerance=0.5
    ),
)
MEASUREMENT = state.Measurement(
    variant="onnx-int8",
    artifact=_digest("a"),
    size_bytes=4096,
    p50_ms=0.25,
    p99_ms=0.5,
    peak_memory_mib=64.5,
    golden_max_error=0.001,
    golden_class_agreement=1.0,
    budget_p99_ms=50.0,
    budget_memory_mib=256.0,
    shadow=state.ShadowFigures(
        requests=200,
        rows=210,
        disagreed=3,
        failed=1,
        dropped=17,
        p50_ms=0.5,
        p99_ms=4.0,
        seconds=61.5,
        text="200 of 200 requests, 1.4 % disagree",
    ),
)
DEPLOYMENT = state.DeploymentReport(
    deployment="rollout-7.camera-1",
    model="digits",
    release=2,
    phase=state.Phase.FETCHING,
    since=1_700_000_000.5,
    reason=REASON,
    waiting_for=state.Reason(code="held-on-device", text="a technician holds this device"),
    waiting_until=1_700_003_600.0,
    accepted=state.Acceptance(by="maria (uid 1000)", at=1_700_000_100.0, now=True),
    measurement=MEASUREMENT,
    tried=(
        state.TriedVariant(
            variant="onnx-fp32",
            reason=state.Reason(code="latency-over-budget", text="p99 latency is 80 ms"),
            measurement=MEASUREMENT,
        ),
    ),
    chosen=state.Reason(code="most-accurate", text="the most accurate of 2"),
    progress=state.TransferProgress(
        done_bytes=3_100_000,
        total_bytes=9_800_000,
        bytes_per_second=214_000.0,
        eta_seconds=31.3,
        way="http",
    ),
)
SERVING = state.ServingReport(
    model="digits",
    release=1,
    variant="onnx-fp32",
    artifact=_digest("b"),
    ready=True,
    requests=120,
    failures=1,
    refused=3,
    turned_away=4,
    p50_ms=0.25,
    p95_ms=0.5,
    p99_ms=0.75,
    memory_mib=48.0,
    drift="warning",
    drift_rows=500,
    service_level=state.ServiceVerdict(
        level="broken",
        requests=400,
        p99_ms=120.0,
        failure_rate=0.01,
        text="p99 is 120 ms over 400 requests, 100 ms are allowed",
    ),
    degraded=state.Reason(code="service-level-broken", text="p99 was 120 ms for 60 s"),
)
MODEL_RELEASE = state.ModelRelease(model="digits", release=2)
ROLE_EXPIRY = state.RoleExpiry(role="digits", expires=1_707_000_000.0)
TRUST_REPORT = state.TrustReport(
    hub_time=1_700_000_050.0,
    expiry=(ROLE_EXPIRY,),
    withdrawn=(MODEL_RELEASE,),
    warnings=(REASON,),
)
TRAFFIC = ledger.Traffic(month="2026-11", purpose="artifacts", bytes_in=9_800_000, bytes_out=12_345)
BUDGET = ledger.BudgetReport(
    month="2026-11", monthly_bytes=1_000_000, used_bytes=900_000, left_bytes=100_000, thinning="urgent-only"
)
REPORTED = state.ReportedState(
    device="camera-1",
    agent_version="0.1.0",
    hardware_class="cpu-x86-64",
    boot="5f1c2d3e4f5a6b7c",
    sequence=9,
    time=1_700_000_100.0,
    held=True,
    inference_address="127.0.0.1:8600",
    serving=(SERVING,),
    deployments=(DEPLOYMENT,),
    outbox=state.OutboxReport(
        epoch="e1",
        recorded=53,
        acknowledged=20,
        pending=9,
        dropped={"window": 1},
        quarantined=1,
        merged={"window": 23},
        budget=BUDGET,
    ),
    errors={"malformed": 2},
    refusal=state.Reason(code="expired", text="timestamp.json has expired"),
    problems=(state.Reason(code="trust-damaged", text="trust.db: damaged"),),
    trust=TRUST_REPORT,
    traffic=(TRAFFIC,),
)
SIGNAL = SignalVerdict(
    level="drift",
    rows=490,
    psi=0.5,
    js=0.375,
    ks=0.25,
    wasserstein=0.75,
    p_value=0.001,
    test="chi-squared",
    missing_rate=0.02,
    not_finite_rate=0.01,
    outside_rate=0.125,
    constant=True,
)
VERDICT = Verdict(
    level="drift",
    rows=500,
    correction="benjamini-hochberg",
    alpha=0.01,
    judged=1,
    moved_most=(
        MovedSignal(
            signal="brightness", level="drift", rows=490, statistic="outside", value=0.125, p_value=0.001
        ),
    ),
    reason="brightness moved: PSI 0.50 over 490 rows",
)
WINDOW = DriftWindow(
    model="digits",
    release=2,
    deployment="rollout-7.camera-1",
    artifact=_digest("a"),
    opened=1_700_000_000.0,
    closed=1_700_000_060.0,
    rows=500,
    signals={
        "brightness": SignalCounts(
            counts=(10, 200, 235, 38), missing=10, not_finite=5, repeated=3, withheld=2
        ),
    },
    verdict=VERDICT,
    slice="site=north",
    incomplete=True,
    merged=4,
    alarm=Alarm(level="drift", since=1_700_000_060.0, windows=3, changed=("brightness",)),
    estimate=AccuracyEstimate(accuracy=0.91, low=0.88, high=0.94, level=0.95, rows=495),
    estimate_off="calibration failed: expected error 0.12",
    withheld=Withheld(mechanism="suppressed", parameter=5.0),
)
EVENT = telemetry.Event(
    time=1_700_000_000.0,
    severity="warning",
    kind="deployment-outcome",
    text="release 2 rolled-back: an output differs",
    model="digits",
    release=2,
    deployment="rollout-7.camera-1",
)
HEALTH = telemetry.Health(
    time=1_700_000_001.0,
    cpu_percent=12.5,
    memory_available_mib=900.0,
    disk_free_mib=2048.0,
    temperature_c=51.5,
    thermal="hot",
    load=1.75,
    supervisor_pss_mib=25.25,
    merged=12,
)


SAMPLE_TENSOR = samples.SampleTensor(name="x", datatype="UINT8", shape=(1, 2), data=b"\x01\x02")
KEPT_SAMPLE = samples.KeptSample(
    id="0123456789abcdef",
    model="digits",
    release=2,
    deployment="rollout-7.camera-1",
    artifact=_digest("1"),
    time=1_700_000_000.0,
    why=("low-confidence", "outside-reference"),
    score=2.5,
    likeness="aa00",
    confidence=0.31,
    inputs=(SAMPLE_TENSOR,),
    outputs=(SAMPLE_TENSOR,),
)
SAMPLE_REQUEST = samples.SampleRequest(
    id="request-1",
    model="digits",
    devices=("camera-1", "camera-2"),
    first_release=1,
    last_release=3,
    maximum=20,
    created=1_700_000_000.0,
    expires=1_700_600_000.0,
    purpose="find out why night shots are read wrongly",
)
VERIFIED_SAMPLE_REQUEST = samples.VerifiedSampleRequest(
    request=SAMPLE_REQUEST, digest=_digest("5"), approver=_digest("6")
)
SAMPLE = telemetry.Sample(
    request="request-1",
    sample="0123456789abcdef",
    model="digits",
    release=2,
    artifact=_digest("1"),
    taken=1_700_000_000.0,
    why=("over-represented",),
    confidence=0.31,
    inputs=(SAMPLE_TENSOR,),
    outputs=(SAMPLE_TENSOR,),
)
SAMPLE_ANSWER = telemetry.SampleAnswer(
    time=1_700_000_000.0,
    request="request-1",
    digest=_digest("5"),
    accepted=True,
    code="accepted",
    text="2 of 9 samples leave",
    chosen=2,
    too_large=("0123456789abcdef",),
)


def _batch(body: telemetry.Body) -> telemetry.TelemetryBatch:
    return telemetry.TelemetryBatch(
        device="camera-1", epoch="e1", records=(telemetry.Record(sequence=7, body=body),)
    )


def _file(filename: str, digit: str) -> ArtifactRef:
    return ArtifactRef(filename=filename, sha256=_digest(digit), size=1024)


IMAGE = TensorSpec(name="image", datatype="FP32", shape=(-1, 1, 8, 8))
SCORES = TensorSpec(name="scores", datatype="FP32", shape=(-1, 10))
MANIFEST = Manifest(
    schema=1,
    model="digits",
    release=2,
    created=1_700_000_000.0,
    author="Ada",
    summary="Distilled, int8.",
    task="classification",
    labels=("0", "1"),
    inputs=(IMAGE,),
    outputs=(SCORES,),
    preprocessing="Divide grey values 0-16 by 16.",
    variants=(
        Variant(
            name="onnx-int8",
            runtime="onnx",
            precision="int8",
            artifact=_file("student.onnx", "1"),
            opset=17,
            minimum_runtime="1.22",
            accuracy=0.97,
        ),
    ),
    budgets={
        "cpu-x86-64": Budget(
            p99_ms=50.0,
            peak_memory_mib=256.0,
            slo=ServiceLevel(p99_ms=100.0, maximum_failure_rate=0.02, minimum_requests=200, seconds=600.0),
        )
    },
    golden=GoldenRef(
        artifact=_file("golden.msgpack", "2"), absolute_tolerance=0.01, minimum_class_agreement=1.0
    ),
    drift_reference=_file("reference.json", "3"),
    probation=Probation(
        requests=20, maximum_failure_rate=0.01, minimum_seconds=30.0, maximum_seconds=600.0, drift="ignore"
    ),
    evidence=Evidence(
        card=_file("card.md", "4"),
        evaluation=_file("evaluation.json", "5"),
        bench=(_file("bench.json", "6"),),
    ),
    lineage=Lineage(
        parent=Parent(model="digits", release=1),
        distilled_from=Parent(model="digits", release=1),
        quantized_from=_digest("7"),
        datasets={"load_digits": _digest("8")},
        recipe="python -m models digits --release 2",
        code_version="abc123",
        packages={"scikit-learn": "1.6.0"},
    ),
)
REFERENCE = DriftReference(
    schema=1,
    dataset_sha256=_digest("8"),
    rows=1000,
    signals=(
        SignalReference(
            name="brightness",
            source="input",
            tensor="image",
            summary="value",
            index=0,
            edges=(0.0, 0.25, 1.0),
            counts=(0, 400, 585, 0),
            missing=10,
            not_finite=5,
            missing_value=-1.0,
        ),
        SignalReference(
            name="kind",
            source="input",
            tensor="row",
            summary="category",
            index=3,
            categories=(2, 7),
            edges=(-0.5, 0.5, 1.5),
            counts=(0, 400, 600, 0),
            missing=0,
        ),
        SignalReference(
            name="clipped",
            source="input",
            tensor="sound",
            summary="clipping",
            full_scale=32767.0,
            edges=(0.0, 1.0),
            counts=(0, 1000, 0),
            missing=0,
        ),
        SignalReference(
            name="sharp",
            source="input",
            tensor="picture",
            summary="sharpness",
            layout="CHW",
            edges=(0.0, 1.0),
            counts=(0, 1000, 0),
            missing=0,
        ),
    ),
    policy=DriftPolicy(
        every=5,
        window_rows=400,
        window_seconds=60.0,
        minimum_rows=200,
        alpha=0.05,
        psi_warning=0.2,
        psi_drift=0.3,
        maximum_outside=0.1,
        persistence=3,
        recovery=5,
        slices=SlicePolicy(parameter="site", values=("north", "south"), maximum=4),
        sequential=SequentialPolicy(tolerance=0.5, threshold=12.0, minimum_windows=8),
        privacy=CountPrivacy(mechanism="noised", minimum=7, epsilon=0.5),
    ),
    embeddings=(
        Components(source="input", tensor="row", mean=b"\x00\x00\x80?", vectors=b"\x00\x00\x80\xbf"),
    ),
    calibration=Calibration(
        signal="brightness",
        rows=(0, 400, 585, 0),
        correct=(0, 300, 580, 0),
        expected_error=0.02,
        problem="expected error 0.02, at most 0.01 is allowed",
    ),
)
EVALUATION = evidence.Evaluation(
    dataset="load_digits, held out",
    dataset_sha256=_digest("8"),
    variants=(
        evidence.VariantEvaluation(
            variant="onnx-int8",
            rows=360,
            accuracy=0.97,
            slices=(evidence.SliceResult(name="3", rows=36, accuracy=0.94),),
            calibration=evidence.Calibration(
                bins=10, expected_calibration_error=0.02, maximum_calibration_error=0.1
            ),
            robustness={"blur": 0.75},
        ),
    ),
)
BENCH = evidence.BenchReport(
    hardware_class="cpu-x86-64",
    machine="2 cores",
    packages={"onnxruntime": "1.22.0"},
    model="digits",
    artifacts={"onnx-int8": _digest("1")},
    scenarios=(
        evidence.ScenarioResult(
            scenario="single-stream",
            variant="onnx-int8",
            queries=1000,
            rows_per_query=1,
            p50_us=6.0,
            p90_us=7.0,
            p95_us=8.0,
            p99_us=9.5,
            rows_per_second=150_000.0,
        ),
    ),
    memory=(evidence.VariantMemory(variant="onnx-int8", pss_mib=40.0, peak_pss_mib=44.0),),
)
GOLDEN_VECTORS = golden.GoldenVectors(
    inputs=(golden.Tensor(name="image", datatype="UINT8", shape=(1, 2), data=b"\x01\x02"),),
    expected={"onnx-int8": (golden.Tensor(name="scores", datatype="INT8", shape=(1, 2), data=b"\x00\xff"),)},
)
ACCESS = access.Access(
    tls=access.TlsFiles(
        certificate="/etc/edgeward/tls.crt",
        key="/etc/edgeward/tls.key",
        client_ca="/etc/edgeward/clients.crt",
    ),
    hosts=("camera-1.example",),
    query_budget=access.QueryBudget(rows_per_hour=3600, burst=100, tcp="shared"),
    ledger_fd=8,
    outputs=access.OutputLimits(decimals=2, top_k=3),
    registrations_fd=12,
)
START = runner.Start(
    model="digits",
    release=2,
    deployment="rollout-7.camera-1",
    variant="onnx-int8",
    runtime="onnx",
    artifact_path="/var/lib/edgeward/artifacts/sha256/11/11",
    artifact_sha256=_digest("1"),
    inputs=(IMAGE,),
    outputs=(SCORES,),
    labels=("0", "1"),
    reference_path="/var/lib/edgeward/artifacts/sha256/33/33",
    private_fd=5,
    shared_fds=(6, 7),
    threads=1,
    default_deadline_ms=1000.0,
    maximum_body_bytes=1_048_576,
    queue_depth=64,
    shared_memory="unix",
    access=ACCESS,
    samples=samples.SamplePolicy(
        reasons=("low-confidence",), low_confidence_share=0.02, per_hour=60, maximum_bytes=65_536
    ),
    predictions_per_minute=600,
    labels_from="unix",
    drift_states={"": b"\x01\x02", "site=north": b"\x03"},
)
RELEASE_FILE = verification.ReleaseFile(filename="manifest.json", sha256=_digest("9"), size=2048)
MARK = verification.Mark(role="snapshot", keys="1:" + _digest("c"), version=4)
VERIFIED = verification.VerifyResult(
    assignments=(
        verification.VerifiedAssignment(
            model="digits", release=2, assignment=ASSIGNMENT, manifest=RELEASE_FILE, files=(RELEASE_FILE,)
        ),
    ),
    refused=(
        verification.RefusedAssignment(
            model="digits", release=3, deployment="rollout-8.camera-1", reason=REASON
        ),
    ),
    refusal=state.Reason(code="no-network", text="the hub does not answer"),
    metadata={"snapshot.json": b"{}"},
    marks=(MARK,),
    hub_time=1_700_000_000.0,
    hub_time_replaced=True,
    expiry=(ROLE_EXPIRY,),
    sample_request=VERIFIED_SAMPLE_REQUEST,
    sample_refusal=REASON,
    withdrawn=(MODEL_RELEASE,),
)
SLOT = control.SlotReport(
    release=2,
    variant="onnx-int8",
    artifact=_digest("1"),
    deployment="rollout-7.camera-1",
    standby="tflite-int8",
)
LABEL = labels.Label(request="part-1#2", label="3", origin="person", time=1_700_000_000.5)
LABEL_ANSWER = labels.LabelAnswer(request="part-1#2", outcome="unknown", text="no request of that id is kept")
ACCURACY = telemetry.Accuracy(
    time=1_700_000_000.5,
    model="digits",
    release=3,
    slice="camera=left",
    opened=1_699_920_000.0,
    closed=1_700_006_400.0,
    origin="system",
    rows=100,
    correct=93,
    expected_rows=98,
    expected_correct=91.5,
    suspicious=True,
)
ACCURACY_FIGURE = labels.AccuracyFigure(
    model="digits",
    release=3,
    slice="camera=left",
    origin="system",
    opened=1_699_920_000.0,
    closed=1_700_006_400.0,
    rows=100,
    correct=93,
    low=0.862,
    high=0.966,
    expected=0.934,
    suspicious="100 of 100 agree",
    contradicts="50 of 100 are right",
    estimate=0.93,
    estimate_low=0.91,
    estimate_high=0.95,
)
RESULTS: tuple[control.ControlResult, ...] = (
    control.LabelResult(answers=(LABEL_ANSWER,)),
    control.AccuracyResult(
        figures=(ACCURACY_FIGURE,),
        counts=labels.LabelCounts(
            predictions=2_000,
            oldest=1_699_920_000.0,
            labelled=100,
            skipped=17,
            outcomes={"joined": 100, "unknown": 3},
        ),
    ),
    control.StatusResult(
        state=REPORTED,
        connected=True,
        link_problem="connection lost",
        hold=REASON,
        desired_at=1_700_000_000.0,
    ),
    control.ModelsResult(
        models=(
            control.ModelReport(
                model="digits",
                address="127.0.0.1:8600",
                active=SLOT,
                candidate=SLOT,
                previous=SLOT,
                floor=2,
                deployment=DEPLOYMENT,
                serving=SERVING,
            ),
        )
    ),
    control.DriftResult(
        reports=(
            control.DriftReport(
                model="digits",
                window=WINDOW,
                signals=(
                    control.DriftSignal(
                        reference=REFERENCE.signals[0],
                        counts=SignalCounts(counts=(10, 200, 235, 40), missing=10, not_finite=5, repeated=3),
                        verdict=SIGNAL,
                    ),
                ),
                reference_rows=1000,
                policy=REFERENCE.policy,
                problem="the files of digits release 2 are no longer on this device",
                history=(
                    control.DriftMark(
                        closed=1_700_000_060.0,
                        level="warning",
                        rows=500,
                        release=2,
                        incomplete=True,
                        alarm="drift",
                    ),
                ),
                slices=(WINDOW,),
                accuracy=(ACCURACY_FIGURE,),
            ),
        )
    ),
    control.EventsResult(events=(EVENT,)),
    control.PlanResult(
        steps=(
            control.PlanStep(
                action="start", model="digits", deployment="rollout-7.camera-1", release=2, reason=REASON
            ),
        ),
        refusal=REASON,
    ),
    control.BundleResult(
        report=control.BundleReport(
            bundle=_digest("d"),
            offered=1_700_000_000.0,
            stage="copying",
            done_bytes=1024,
            total_bytes=4096,
            refusal=REASON,
            orders=(bundle.BundleOrder(model="digits", release=2, deployment="rollout-7.camera-1"),),
            deployments=(DEPLOYMENT,),
        )
    ),
    control.ReceiptResult(envelope='{"payload":""}', final=True),
    control.DataResult(
        ledger=ledger.LedgerReport(
            traffic=(TRAFFIC,),
            flash=(
                ledger.FlashWrites(
                    deployment="rollout-7.camera-1",
                    model="digits",
                    release=2,
                    began=1_700_000_000.5,
                    ended=1_700_000_100.5,
                    written_bytes=12_345_678,
                ),
            ),
            budget=BUDGET,
        )
    ),
    control.SamplesResult(
        enabled=True,
        may_leave=True,
        samples=(
            control.SampleView(
                id="0123456789abcdef",
                model="digits",
                release=2,
                time=1_700_000_000.0,
                why=("low-confidence",),
                confidence=0.31,
                size_bytes=64,
                left=1_700_000_100.0,
            ),
        ),
        count=3,
        size_bytes=192,
        maximum_bytes=16_777_216,
        departures=(
            control.SampleDeparture(
                request="request-1",
                time=1_700_000_100.0,
                accepted=True,
                code="accepted",
                text="1 of 3 samples leaves",
                model="digits",
                approver=_digest("6"),
                purpose="find out why night shots are read wrongly",
                samples=1,
                sent=1,
                size_bytes=64,
            ),
        ),
    ),
    control.SampleFileResult(sample=KEPT_SAMPLE),
    control.Done(message="resumed"),
)
BUNDLE = bundle.BundleIndex(
    hub="hub",
    created=1_700_000_000.0,
    expires=1_702_592_000.0,
    created_by="olga",
    devices=(
        bundle.BundleDevice(
            device="camera-1",
            hardware_class="cpu-x86-64",
            orders=(bundle.BundleOrder(model="digits", release=2, deployment="rollout-7.camera-1"),),
        ),
    ),
    files=(
        bundle.BundleFile(kind="metadata", name="1.root.json", sha256=_digest("1"), size=2048),
        bundle.BundleFile(
            kind="artifact", name="models/digits/2/model.onnx", sha256=_digest("2"), size=600_000
        ),
    ),
)
RECEIPT = receipt.Receipt(
    device="camera-1",
    hardware_class="cpu-x86-64",
    agent_version="0.1.0",
    time=1_700_000_100.0,
    bundle=_digest("d"),
    certificate="-----BEGIN CERTIFICATE-----",
    deployments=(DEPLOYMENT,),
    refusal=REASON,
)
ENVELOPE = envelope.Envelope(
    payload=b"{}",
    payload_type=envelope.BUNDLE_TYPE,
    signatures=(envelope.EnvelopeSignature(keyid=_digest("3"), sig=b"0123"),),
)


def _json(name: str, message: Any) -> Sample:
    return Sample(name=name, message=message, kind=type(message), format="json")


def _hex(name: str, message: Any, kind: Any = None) -> Sample:
    return Sample(name=name, message=message, kind=kind or type(message), format="hex")


def _named(message: Any) -> str:
    """``LoadFailed`` → ``load-failed``."""
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in type(message).__name__).lstrip("-")


SAMPLES: tuple[Sample, ...] = (
    # state, over MQTT
    _json("desired-state", state.DesiredState(device="camera-1", director='{"signed":{},"signatures":[]}')),
    _json("assignment", ASSIGNMENT),
    _json("reported-state", REPORTED),
    _json("presence", state.Presence(online=True, boot="5f1c2d3e4f5a6b7c")),
    _json("command", state.Command(command="sync")),
    # telemetry, over MQTT
    _hex("telemetry-event", _batch(EVENT)),
    _hex("telemetry-health", _batch(HEALTH)),
    _hex("telemetry-sample", _batch(SAMPLE)),
    _hex("telemetry-sample-answer", _batch(SAMPLE_ANSWER)),
    _json("sample-request", SAMPLE_REQUEST),
    _hex("telemetry-window", _batch(telemetry.Window(window=WINDOW))),
    _json(
        "telemetry-ack",
        telemetry.TelemetryAck(epoch="e1", sequences=(7, 8), refused={"9": "it is of no known kind"}),
    ),
    _json("telemetry-counts", telemetry.TelemetryCounts(epoch="e1", records=3, by_kind={"event": 3})),
    _hex("telemetry-accuracy", _batch(ACCURACY)),
    # labels, over HTTP and MQTT
    _json("model-labels", labels.ModelLabels(labels=(LABEL,))),
    _json("labels-answer", labels.LabelsAnswer(answers=(LABEL_ANSWER,))),
    _json("label-delivery", labels.LabelDelivery(id="labels-7", model="digits", labels=(LABEL,))),
    _json(
        "label-receipt",
        labels.LabelReceipt(
            id="labels-7",
            outcomes={"joined": 2, "unknown": 1},
            refused=(LABEL_ANSWER,),
            problem="no such model",
        ),
    ),
    # block transfer, over MQTT
    _hex(
        "request-metadata",
        transfer.BlockRequest(
            id=1, source=transfer.MetadataSource(name="3.root.json"), offset=0, length=65_536
        ),
    ),
    _hex(
        "request-artifact",
        transfer.BlockRequest(
            id=2, source=transfer.ArtifactSource(sha256=_digest("1")), offset=65_536, length=100
        ),
    ),
    _hex(
        "request-location",
        transfer.LocationRequest(id=3, sha256=_digest("1")),
        transfer.TransferRequest,
    ),
    _hex(
        "response-location",
        transfer.Location(
            id=3,
            url=f"https://hub.example.org/v1/artifacts/{_digest('1')}?device=d",
            etag=f'"{_digest("1")}"',
            expires=1_700_003_600.0,
        ),
        transfer.TransferResponse,
    ),
    _hex(
        "response-block",
        transfer.Block(id=2, offset=65_536, total=65_636, data=b"\x00\x01"),
        transfer.TransferResponse,
    ),
    _hex(
        "response-problem",
        transfer.TransferProblem(id=2, code="out-of-range", text="offset 9 is beyond the end"),
        transfer.TransferResponse,
    ),
    # enrolment, over HTTP
    _json(
        "enrolment-request",
        enrolment.EnrolmentRequest(
            token=f"ew1.{'A' * 22}.{_digest('d')}",
            device="camera-1",
            hardware_class="cpu-x86-64",
            csr="-----BEGIN CERTIFICATE REQUEST-----",
        ),
    ),
    _json(
        "enrolment-response",
        enrolment.EnrolmentResponse(
            device="camera-1",
            certificate="-----BEGIN CERTIFICATE-----",
            authority="-----BEGIN CERTIFICATE-----",
            broker=enrolment.BrokerAddress(host="127.0.0.1", port=8883, tls=True),
            root='{"signed":{}}',
            minimum_versions={"timestamp": 4},
        ),
    ),
    # files of a release
    _json("manifest", MANIFEST),
    _json("drift-reference", REFERENCE),
    _json("evaluation", EVALUATION),
    _json("bench-report", BENCH),
    _hex("golden-vectors", GOLDEN_VECTORS),
    # supervisor and runner
    *(
        _hex(f"to-runner-{_named(message)}", message, runner.ToRunner)
        for message in (
            START,
            runner.Probe(
                golden_path="/var/lib/edgeward/golden", warmup=10, repetitions=200, p99_limit_ms=50.0
            ),
            runner.Accept(),
            runner.Shadow(
                session=3, path="/run/edgeward/private/digits.2.sock", share=0.25, requests=500, tolerance=0.5
            ),
            runner.EndShadow(session=3),
            runner.Drain(idle_seconds=30.0),
            runner.Stop(),
            runner.YieldTcp(),
            runner.LabelsJoined(call=4, answers=(LABEL_ANSWER,), problem="the database can't be used now"),
        )
    ),
    *(
        _hex(f"from-runner-{_named(message)}", message, runner.FromRunner)
        for message in (
            runner.Loaded(backend="onnxruntime 1.22.0", load_ms=12.5),
            runner.LoadFailed(code="unknown-operator", text="operator Foo is not known"),
            runner.ProbeReport(
                golden_max_error=0.001,
                golden_class_agreement=1.0,
                golden_rows=16,
                p50_ms=0.25,
                p99_ms=0.5,
                repetitions=200,
            ),
            runner.ProbeFailed(code="inference-failed", text="shape [2] was expected"),
            runner.Accepting(),
            runner.Drained(closed_idle=2),
            runner.Statistics(
                requests=10,
                failures=1,
                not_finite=1,
                refused=2,
                turned_away=3,
                p50_ms=0.25,
                p95_ms=0.5,
                p99_ms=0.75,
                recent=runner.Served(
                    latencies=latency.LatencyBins(counts=((300, 2), (400, 1))), failures=1, turned_away=2
                ),
            ),
            runner.Alive(running_seconds=2.5),
            runner.WindowClosed(
                window=WINDOW,
                signals={"brightness": SIGNAL},
                drift_state=b"\x01\x02",
                privacy=CountPrivacy(mechanism="suppressed", minimum=7, epsilon=0.5),
            ),
            runner.WindowOpen(
                so_far=runner.WindowClosed(window=msgspec.structs.replace(WINDOW, incomplete=True))
            ),
            runner.SampleTaken(sample=KEPT_SAMPLE),
            runner.Predicted(
                predictions=(
                    labels.Prediction("part-1#2", 1_700_000_000.5, "camera=left", "3", 0.75, 0.875),
                ),
                skipped=2,
                privacy=CountPrivacy(mechanism="noised", minimum=7, epsilon=0.5),
            ),
            runner.LabelsGiven(call=4, labels=(LABEL,)),
            runner.ShadowReport(
                session=3,
                requests=200,
                rows=210,
                disagreed=3,
                failed=1,
                dropped=17,
                latencies=latency.LatencyBins(counts=((300, 198), (700, 2))),
                final=True,
            ),
        )
    ),
    # supervisor and front
    *(
        _hex(f"to-front-{_named(message)}", message, front.ToFront)
        for message in (
            front.FrontStart(
                listening_fd=7,
                models={"digits": "/run/edgeward/models/digits.sock"},
                maximum_body_bytes=1_048_576,
                tls=ACCESS.tls,
                hosts=ACCESS.hosts,
            ),
            front.FrontModels(models={"digits": "/run/edgeward/models/digits.sock"}),
        )
    ),
    *(
        _hex(f"from-front-{_named(message)}", message, front.FromFront)
        for message in (front.FrontReady(), front.FrontFailed(text="the socket can't be listened on"))
    ),
    # supervisor and verifier
    _hex(
        "to-verifier-verify-request",
        verification.VerifyRequest(
            device="camera-1",
            root=b"{}",
            metadata={"timestamp.json": b"{}"},
            marks=(MARK,),
            now=1_700_000_000.0,
            system=1_699_999_000.0,
            director=b"{}",
            bundle=b"{}",
            sample_request=b"{}",
            installed=(MODEL_RELEASE,),
        ),
        verification.ToVerifier,
    ),
    _hex(
        "to-verifier-fetched-metadata",
        verification.FetchedMetadata(data=b"{}", error="timed out", fault="3 MiB, at most 2 MiB are allowed"),
        verification.ToVerifier,
    ),
    _hex(
        "from-verifier-fetch-metadata",
        verification.FetchMetadata(name="timestamp.json", maximum_bytes=16_384),
        verification.FromVerifier,
    ),
    _hex("from-verifier-verify-result", VERIFIED, verification.FromVerifier),
    # files between hub and device
    _json("bundle-index", BUNDLE),
    _json("receipt", RECEIPT),
    _json("envelope", ENVELOPE),
    # technician and agent
    _json(
        "control-request",
        control.ControlRequest(
            method="rollback",
            model="digits",
            limit=20,
            reason="it is slow",
            after="0123456789abcdef",
            now=True,
            labels=(LABEL,),
        ),
    ),
    *(
        _json(f"control-response-{_named(result)}", control.ControlResponse(result=result))
        for result in RESULTS
    ),
    _json(
        "control-response-error",
        control.ControlResponse(error=control.ControlProblem(code="unknown-model", text="no model faces")),
    ),
)


def write_missing() -> list[Path]:
    """Write the golden files that are not there yet; returns their paths."""
    from tests.contract.protocol.wire import encode

    GOLDEN.mkdir(exist_ok=True)
    missing = [sample for sample in SAMPLES if not sample.path.exists()]
    for sample in missing:
        sample.path.write_bytes(encode(sample.message, sample.format) + b"\n")
    return [sample.path for sample in missing]


if __name__ == "__main__":
    for path in write_missing():
        print(path)  # noqa: T201 - a command of the test suite
