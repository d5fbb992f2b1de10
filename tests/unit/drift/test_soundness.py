from typing import Any

import msgspec
import numpy as np
import pytest

from agent.drift import (
    BadReferenceError,
    SignalError,
    SignalSpec,
    build_reference,
    check_tensors,
    decode_reference,
    encode_reference,
)
from agent.protocol.drift import Components, DriftReference, SignalReference
from agent.protocol.manifest import TensorSpec

RANDOM = np.random.default_rng(0)
VECTORS = np.eye(2, 4, dtype="<f4")
EMBEDDING = Components(
    source="input", tensor="table", mean=np.zeros(4, dtype="<f4").tobytes(), vectors=VECTORS.tobytes()
)
SPECS = (
    SignalSpec(
        name="kind", source="input", tensor="table", summary="category", index=0, categories=(0, 1, 2)
    ),
    SignalSpec(name="level", source="input", tensor="table", summary="value", index=1, missing_value=-1.0),
    SignalSpec(name="axis", source="input", tensor="table", summary="projection", index=1),
    SignalSpec(name="noise", source="input", tensor="photo", summary="noise", layout="HWC"),
    SignalSpec(name="colour", source="input", tensor="photo", summary="saturation", layout="HWC"),
    SignalSpec(name="clipped", source="input", tensor="sound", summary="clipping", full_scale=0.5),
    SignalSpec(name="lead", source="output", tensor="scores", summary="margin"),
)
ROWS = 600


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    table = np.column_stack([RANDOM.integers(0, 3, ROWS), RANDOM.random((ROWS, 3))]).astype(np.float32)
    table[:30, 1] = -1.0
    return build_reference(
        SPECS,
        inputs={
            "table": table,
            "photo": RANDOM.random((ROWS, 8, 8, 3), dtype=np.float32),
            "sound": RANDOM.random((ROWS, 50), dtype=np.float32),
        },
        outputs={"scores": RANDOM.dirichlet(np.ones(3), ROWS)},
        dataset_sha256="0" * 64,
        embeddings=(EMBEDDING,),
    )


def named(reference: DriftReference, name: str) -> SignalReference:
    return next(signal for signal in reference.signals if signal.name == name)


def test_a_reference_holds_what_was_declared(reference: DriftReference) -> None:
    assert named(reference, "kind").edges == (-0.5, 0.5, 1.5, 2.5)
    assert sum(named(reference, "kind").counts[1:-1]) == ROWS
    assert (named(reference, "level").missing, min(named(reference, "level").edges) >= 0) == (30, True)
    assert named(reference, "noise").layout == "HWC"
    assert reference.embeddings == (EMBEDDING,)
    assert decode_reference(msgspec.json.encode(reference)) == reference


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("kind", {"index": None}, "'index' belongs to"),
        ("noise", {"index": 1}, "'index' belongs to"),
        ("noise", {"layout": None}, "'layout' belongs to"),
        ("level", {"layout": "HW"}, "'layout' belongs to"),
        ("clipped", {"full_scale": None}, "'full_scale' belongs to"),
        ("lead", {"full_scale": 1.0}, "'full_scale' belongs to"),
        ("kind", {"categories": None}, "'categories' belongs to"),
        ("kind", {"categories": ()}, "at least one code, ascending"),
        ("kind", {"categories": (2, 1, 0)}, "at least one code, ascending"),
        ("kind", {"categories": (0, 1)}, "edges of 2 categories"),
        ("lead", {"missing_value": 0.0}, "'missing_value' is a finite number"),
        ("level", {"not_finite": 1}, "add up to 601"),
        ("axis", {"index": 2}, "component 2 is asked for, input 'table' has 2"),
        ("axis", {"source": "output"}, "component 1 is asked for, output 'table' has 0"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(
    reference: DriftReference, name: str, change: dict[str, Any], text: str
) -> None:
    signals = tuple(
        msgspec.structs.replace(signal, **change) if signal.name == name else signal
        for signal in reference.signals
    )
    with pytest.raises(BadReferenceError, match=f"signal {name}: .*{text}"):
        decode_reference(msgspec.json.encode(msgspec.structs.replace(reference, signals=signals)))


@pytest.mark.parametrize(
    ("embeddings", "text"),
    [
        ((EMBEDDING, EMBEDDING), "stand twice: input table"),
        ((msgspec.structs.replace(EMBEDDING, mean=b""),), "0 bytes of mean"),
        ((msgspec.structs.replace(EMBEDDING, mean=b"abc"),), "3 bytes of mean"),
        ((msgspec.structs.replace(EMBEDDING, vectors=b"1234"),), "4 of vectors"),
        (
            (msgspec.structs.replace(EMBEDDING, mean=np.full(4, np.nan, dtype="<f4").tobytes()),),
            "must be finite",
        ),
    ],
)
def test_components_that_cannot_be_used_are_refused(
    reference: DriftReference, embeddings: tuple[Components, ...], text: str
) -> None:
    with pytest.raises(BadReferenceError, match=text):
        decode_reference(msgspec.json.encode(msgspec.structs.replace(reference, embeddings=embeddings)))


def test_components_too_large_for_the_signed_file_are_refused(reference: DriftReference) -> None:
    large = Components(source="input", tensor="other", mean=bytes(4 * 40_000), vectors=bytes(4 * 80_000))
    with pytest.raises(BadReferenceError, match="bytes, at most"):
        encode_reference(msgspec.structs.replace(reference, embeddings=(large,)))


def model(**shapes: tuple[int, ...]) -> list[TensorSpec]:
    usual = {"table": (-1, 4), "photo": (-1, 8, 8, 3), "sound": (-1, 50)} | shapes
    return [TensorSpec(name=name, datatype="FP32", shape=shape) for name, shape in usual.items()]


SCORES = [TensorSpec(name="scores", datatype="FP32", shape=(-1, 3))]


def test_the_models_tensors_are_checked_before_it_serves(reference: DriftReference) -> None:
    check_tensors(reference.signals, model(), SCORES, reference.embeddings)
    check_tensors(reference.signals, model(photo=(-1, -1, -1, 3)), SCORES, reference.embeddings)
    check_tensors(reference.signals, model(photo=(-1, 1, 8, 8, 3)), SCORES, reference.embeddings)
    check_tensors(reference.signals, model(table=(-1, -1)), SCORES, reference.embeddings)


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ({"table": (-1, 5)}, "signal axis: a row of 'table' has 5 elements, the reference's components 4"),
        ({"table": (-1, 1)}, "signal level: element 1 is asked for, a row of 'table' has 1"),
        (
            {"photo": (-1, 8, 3)},
            "signal noise: 'photo': a row of shape \\[8, 3\\] is no picture of layout HWC",
        ),
        (
            {"photo": (-1, 8, 8, 1)},
            "signal colour: saturation needs red, green and blue, 'photo' has 1 channels",
        ),
    ],
)
def test_tensors_that_do_not_carry_the_signals_are_refused(
    reference: DriftReference, shapes: dict[str, tuple[int, ...]], text: str
) -> None:
    with pytest.raises(SignalError, match=text):
        check_tensors(reference.signals, model(**shapes), SCORES, reference.embeddings)


def test_one_score_has_no_margin(reference: DriftReference) -> None:
    one = [TensorSpec(name="scores", datatype="FP32", shape=(-1, 1))]
    with pytest.raises(SignalError, match="signal lead: a margin needs two elements"):
        check_tensors(reference.signals, model(), one, reference.embeddings)
