"""What is told of answers: the class, the confidence, what is expected of it; only with an id, and never too much."""

import msgspec
import numpy as np
import pytest

from agent.drift import SignalSpec, build_reference
from agent.drift.estimate import slot_shares
from agent.protocol.drift import Calibration, DriftPolicy, DriftReference
from agent.protocol.labels import Prediction
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import Predicted
from agent.runner.prediction_log import BATCH, Expectation, PredictionLog, classes_tensor
from agent.runner.request_facts import NO_FACTS, RequestFacts

LABELS = ("a", "b", "c")


def probabilities(*rows: tuple[float, ...]) -> dict[str, np.ndarray]:
    return {"y": np.array(rows, np.float32)}


def log_of(told: list[Predicted], per_minute: int = 600, labels: tuple[str, ...] = LABELS) -> PredictionLog:
    return PredictionLog(
        "y",
        labels,
        per_minute=per_minute,
        expectation=Expectation(None),
        slice_of=lambda facts: facts.value,
        told=told.append,
    )


def test_a_request_with_an_id_is_told_about_and_one_without_is_not() -> None:
    told: list[Predicted] = []
    log = log_of(told)
    log.add({}, probabilities((0.25, 0.5, 0.25)), RequestFacts("r-1", "camera=left"), 7.0)
    log.add({}, probabilities((1.0, 0.0, 0.0)), NO_FACTS, 7.0)
    log.add({}, probabilities((0, 0, 1), (0.5, 0.25, 0.25)), RequestFacts("r-2"), 8.0)
    assert told == []
    log.tick(8.5)
    log.tick(9.0)
    assert told == [
        Predicted(
            predictions=(
                Prediction("r-1", 7.0, "camera=left", "b", 0.5, None),
                Prediction("r-2#0", 8.0, None, "c", 1.0, None),
                Prediction("r-2#1", 8.0, None, "a", 0.5, None),
            )
        )
    ]


def test_a_class_without_a_name_is_its_number() -> None:
    told: list[Predicted] = []
    log = log_of(told, labels=())
    log.add({}, {"y": np.array([[-3, 7, 7]], np.int8)}, RequestFacts("r-1"), 7.0)
    log.close(7.0)
    assert [(each.label, each.confidence) for each in told[0].predictions] == [("1", 7.0)]


def test_what_the_client_is_refused_was_never_said() -> None:
    told: list[Predicted] = []
    log = log_of(told)
    log.add({}, probabilities((float("nan"), 0.5, 0.5)), RequestFacts("r-1"), 7.0)
    log.add({}, {"y": np.array([[0.5]], np.float32)}, RequestFacts("r-2"), 7.0)
    log.close(7.0)
    assert told == []


def test_no_more_is_told_than_the_owner_allows_and_the_rest_is_counted() -> None:
    told: list[Predicted] = []
    log = log_of(told, per_minute=60)
    for second in range(30):
        for number in range(10):
            log.add({}, probabilities((1, 0, 0)), RequestFacts(f"{second}.{number}"), float(second))
        log.tick(float(second))
    rows = sum(len(each.predictions) for each in told)
    assert rows == 60 + 29  # a minute's at once, then one a second
    assert rows + sum(each.skipped for each in told) == 300
    log.add(
        {}, probabilities((1, 0, 0)), RequestFacts("back"), -1e6
    )  # a clock that is set back gives nothing
    log.close(0.0)
    assert told[-1] == Predicted(predictions=(), skipped=1)


def test_much_at_once_is_told_in_frames_of_bounded_size() -> None:
    told: list[Predicted] = []
    log = log_of(told, per_minute=10_000)
    log.add({}, {"y": np.zeros((1_000, 3), np.float32)}, RequestFacts("r"), 0.0)
    assert [len(each.predictions) for each in told] == [BATCH, BATCH, BATCH, 1_000 - 3 * BATCH]


def reference(problem: str | None = None) -> DriftReference:
    rng = np.random.default_rng(0)
    specs = [
        SignalSpec(name="x0", source="input", tensor="x", summary="value", index=0),
        SignalSpec(name="sure", source="output", tensor="y", summary="confidence"),
    ]
    made = build_reference(
        specs,
        inputs={"x": rng.uniform(0, 1, (1_000, 1)).astype(np.float32)},
        outputs={"y": rng.dirichlet((1, 1, 1), 1_000).astype(np.float32)},
        dataset_sha256="0" * 64,
        policy=DriftPolicy(),
    )
    slots = len(made.signals[1].counts)
    calibration = Calibration(
        signal="sure",
        rows=(100,) * slots,
        correct=tuple(range(slots)),
        expected_error=0.01,
        problem=problem,
    )
    return msgspec.structs.replace(made, calibration=calibration)


def test_what_is_expected_is_the_share_of_the_confidences_slot() -> None:
    made = reference()
    edges = made.signals[1].edges
    assert made.calibration is not None
    shares = slot_shares(made.signals[1], made.calibration.rows, made.calibration.correct)
    expected = Expectation(made)
    assert expected.of(edges[0] - 0.01) == shares[0]
    assert expected.of(edges[0]) == shares[1]
    assert expected.of((edges[3] + edges[4]) / 2) == shares[4]
    assert expected.of(edges[-1]) == shares[-2]
    assert expected.of(edges[-1] + 0.01) == shares[-1]


@pytest.mark.parametrize("made", [None, reference("it failed")])
def test_a_calibration_that_does_not_hold_expects_nothing(made: DriftReference | None) -> None:
    assert Expectation(made).of(0.5) is None


def test_the_answer_is_the_output_that_the_reference_watches_or_the_one_as_wide_as_the_labels() -> None:
    def spec(name: str, *shape: int) -> TensorSpec:
        return TensorSpec(name=name, datatype="FP32", shape=shape)

    assert classes_tensor(reference(), (spec("z", -1, 3), spec("y", -1, 3)), LABELS) == "y"
    assert classes_tensor(None, (spec("z", -1, 3), spec("w", -1, 1)), LABELS) == "z"
    assert classes_tensor(None, (spec("z", -1, 3), spec("w", -1, 3)), LABELS) is None
    assert classes_tensor(None, (spec("z", -1, 1),), ("a",)) is None
