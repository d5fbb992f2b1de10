import msgspec
import numpy as np
import pytest

from agent.drift import (
    BadReferenceError,
    SignalSpec,
    build_reference,
    decode_reference,
    encode_reference,
    signal_values,
)
from agent.drift.reference import largest_record_bytes
from agent.protocol.drift import (
    MAX_SLICE_VALUE,
    AccuracyEstimate,
    Alarm,
    DriftPolicy,
    DriftReference,
    DriftWindow,
    MovedSignal,
    SignalCounts,
    SlicePolicy,
    Verdict,
    Withheld,
)
from agent.protocol.errors import MalformedMessageError
from agent.protocol.telemetry import Record, Window

MEAN = SignalSpec(name="mean", source="input", tensor="x", summary="mean")


def build(values: np.ndarray, *specs: SignalSpec, policy: DriftPolicy | None = None) -> DriftReference:
    return build_reference(
        specs or (MEAN,), inputs={"x": values}, outputs={}, dataset_sha256="0" * 64, policy=policy
    )


def test_it_counts_every_row_and_comes_back_from_its_file(reference: DriftReference) -> None:
    assert decode_reference(encode_reference(reference)) == reference
    for signal in reference.signals:
        assert sum(signal.counts) + signal.missing == reference.rows == 2000
        assert signal.counts[0] == signal.counts[-1] == 0


def test_uniform_bins_span_the_data_and_quantile_bins_share_it() -> None:
    values = np.random.default_rng(0).exponential(1, (1000, 1))
    uniform, quantile = build(
        values, MEAN, msgspec.structs.replace(MEAN, name="q", spacing="quantile")
    ).signals
    assert np.diff(uniform.edges) == pytest.approx((values.max() - values.min()) / 10)
    assert quantile.counts == (0, *[100] * 10, 0)


def test_a_class_signal_has_one_bin_a_class() -> None:
    scores = np.eye(4)[np.random.default_rng(0).integers(0, 3, 500)]
    spec = SignalSpec(name="class", source="input", tensor="x", summary="argmax")
    signal = build(scores, spec).signals[0]
    assert signal.edges == (-0.5, 0.5, 1.5, 2.5, 3.5)
    assert signal.counts[4] == 0  # the class that never came


def test_a_constant_signal_has_a_range_to_leave() -> None:
    assert build(np.full((400, 1), 3.0)).signals[0].edges == (1.5, 4.5)


def test_rows_without_a_number_are_counted_and_do_not_widen_the_range() -> None:
    values = np.random.default_rng(0).normal(0, 1, (500, 1))
    values[:50] = np.nan
    values[50:60] = np.inf
    signal = build(values).signals[0]
    assert (signal.missing, signal.not_finite) == (0, 60)
    assert max(signal.edges) < 10


def test_signal_values_have_one_column_a_signal(reference: DriftReference) -> None:
    inputs = {"image": np.ones((3, 4, 4))}
    outputs = {"scores": np.tile([0.1, 0.5, 0.2, 0.1, 0.1], (3, 1))}
    assert signal_values(reference, inputs, outputs)[0] == pytest.approx([1.0, 0.0, 1.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("rows", "specs", "policy", "text"),
    [
        (200, [MEAN], None, "signal mean with 10 bins needs 300 rows, the data has 200"),
        (900, [msgspec.structs.replace(MEAN, bins=30)], None, "needs windows of 750 rows"),
        (900, [MEAN], DriftPolicy(window_rows=200), "the policy closes them at 200"),
        (900, [MEAN], DriftPolicy(psi_warning=0.3), "psi_drift 0.25 is under psi_warning 0.3"),
        (900, [MEAN, MEAN], None, "stand twice: mean"),
        (900, [msgspec.structs.replace(MEAN, bins=0)], None, "at least 1"),
        (
            900,
            [msgspec.structs.replace(MEAN, index=0)],
            None,
            "'index' belongs to summary 'category', 'projection', 'value'",
        ),
        (
            900,
            [msgspec.structs.replace(MEAN, summary="value")],
            None,
            "'index' belongs to summary 'category', 'projection', 'value'",
        ),
    ],
)
def test_a_reference_that_could_never_judge_is_not_built(
    rows: int, specs: list[SignalSpec], policy: DriftPolicy | None, text: str
) -> None:
    values = np.random.default_rng(0).normal(0, 1, (rows, 1))
    with pytest.raises(BadReferenceError, match=text):
        build(values, *specs, policy=policy)


def test_more_signals_than_a_telemetry_record_holds_are_refused() -> None:
    values = np.random.default_rng(0).normal(0, 1, (600, 400))
    specs = [
        SignalSpec(name=f"element-{index}", source="input", tensor="x", summary="value", index=index)
        for index in range(400)
    ]
    assert len(build(values, *specs[:64]).signals) == 64
    with pytest.raises(BadReferenceError, match="windows of 400 signals would take up to"):
        build(values, *specs)


@pytest.mark.parametrize("rows", [500, 100_000])
def test_no_window_takes_more_than_is_said_of_its_reference(rows: int) -> None:
    """All words as long as they can be, in each of both encodings."""
    specs = [
        SignalSpec(name=f"{index:x<64}", source="input", tensor="x", summary="value", index=index)
        for index in range(9)
    ]
    policy = DriftPolicy(window_rows=rows, slices=SlicePolicy(parameter="p" * 64))
    reference = build(np.random.default_rng(0).normal(0, 1, (500, 9)), *specs, policy=policy)
    names = [signal.name for signal in reference.signals]
    moved = [
        MovedSignal(
            signal=name,
            level="insufficient data",
            rows=rows,
            statistic="not-finite",
            value=-1.234e-300,
            p_value=1.234e-300,
        )
        for name in names[:3]
    ]
    counts = SignalCounts(counts=(rows,) * 12, missing=rows, not_finite=rows, repeated=rows, withheld=rows)
    window = DriftWindow(
        model="m" * 64,
        release=2**53,
        deployment="d" * 64,
        artifact="0" * 64,
        opened=1_795_000_000.123456,
        closed=1_795_000_000.123456,
        rows=rows,
        signals=dict.fromkeys(names, counts),
        verdict=Verdict(
            level="insufficient data",
            rows=rows,
            correction="benjamini-hochberg",
            alpha=0.012345678901234567,
            judged=9,
            moved_most=tuple(moved),
            reason="w" * 480,
        ),
        slice="p" * 64 + "=" + "\U0001d538" * MAX_SLICE_VALUE,
        incomplete=True,
        merged=10_000,
        alarm=Alarm(
            level="insufficient data", since=1_795_000_000.123456, windows=10_000, changed=tuple(names)
        ),
        estimate=AccuracyEstimate(
            accuracy=0.12345678901234567,
            low=0.12345678901234567,
            high=0.12345678901234567,
            level=0.95,
            rows=rows,
        ),
        estimate_off="o" * 320,
        withheld=Withheld(mechanism="suppressed", parameter=1000.0),
    )
    record = Record(sequence=2**63 - 1, body=Window(window=window))
    largest = max(len(msgspec.json.encode(record)), len(msgspec.msgpack.encode(record)))
    bound = largest_record_bytes(reference)
    assert 0.8 * bound < largest < bound - 40  # what the outbox adds


def test_a_signal_without_any_value_is_refused() -> None:
    with pytest.raises(BadReferenceError, match="no row of the reference data has a finite value"):
        build(np.full((500, 1), np.nan))


def test_a_name_that_breaks_the_rule_of_names_is_refused() -> None:
    values = np.random.default_rng(0).normal(0, 1, (500, 1))
    with pytest.raises(MalformedMessageError, match="name"):
        build(values, msgspec.structs.replace(MEAN, name="Mean Value"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"edges": (1.0, 0.0, 2.0)}, "edges must ascend"),
        ({"counts": (0, 1)}, "edges make"),
        ({"missing": 5}, "add up to 2005, the reference has 2000"),
        ({"index": -1}, "'index'"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    reference: DriftReference, change: dict[str, object], text: str
) -> None:
    first = msgspec.structs.replace(reference.signals[0], **change)
    broken = msgspec.structs.replace(reference, signals=(first, *reference.signals[1:]))
    with pytest.raises(BadReferenceError, match=text):
        decode_reference(encode_reference(broken))


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"schema": 2}', b"\xff"])
def test_a_file_that_is_no_reference_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_reference(payload)
