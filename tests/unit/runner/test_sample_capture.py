"""Which rows a runner hands over: the informative ones, few of a kind, and no more than it may."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from agent.drift import SignalSpec, build_reference, encode_reference
from agent.protocol.drift import CountPrivacy, DriftReference, SignalReference
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import Predicted, SampleTaken, Start
from agent.protocol.samples import KeptSample, SamplePolicy
from agent.runner.backends import Array
from agent.runner.books import open_books
from agent.runner.request_facts import NO_FACTS, RequestFacts
from agent.runner.sample_capture import ROWS_A_SECOND, SampleCapture, Served

EVERY = SamplePolicy(
    reasons=("low-confidence", "outside-reference", "over-represented"),
    low_confidence_share=0.02,
    per_hour=3600,
    maximum_bytes=4096,
)
SERVED = Served("digits", 2, "d-1", "1" * 64)
RANDOM = np.random.default_rng(5)


def rows(
    count: int, *, low: float = 0.0, high: float = 1.0, sure: float | None = None
) -> tuple[Array, Array]:
    """Inputs of 4 features in [low, high); outputs of 3 classes, the first with confidence ``sure``."""
    x = RANDOM.uniform(low, high, (count, 4)).astype(np.float32)
    first = RANDOM.uniform(0.8, 1.0, count) if sure is None else np.full(count, sure)
    rest = (1 - first) / 2
    return x, np.stack([first, rest, rest], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    x, y = rows(4000)
    specs = [
        *(
            SignalSpec(name=f"x{index}", source="input", tensor="x", summary="value", index=index)
            for index in range(4)
        ),
        SignalSpec(name="confidence", source="output", tensor="y", summary="confidence"),
        SignalSpec(name="class", source="output", tensor="y", summary="argmax"),
    ]
    return build_reference(specs, inputs={"x": x}, outputs={"y": y}, dataset_sha256="0" * 64)


class Captured:
    def __init__(self, reference: DriftReference, policy: SamplePolicy = EVERY) -> None:
        self.samples: list[KeptSample] = []
        self.capture = SampleCapture(SERVED, reference, policy, self.samples.append)
        self.now = 0.0
        self.capture.tick(self.now)

    def ask(self, batch: tuple[Array, Array], *, seconds: float = 1.0) -> list[KeptSample]:
        """What is handed over for one batch, at the next tick."""
        before = len(self.samples)
        self.capture.add({"x": batch[0]}, {"y": batch[1]}, NO_FACTS, self.now)
        self.now += seconds
        self.capture.tick(self.now)
        return self.samples[before:]


def test_a_row_like_the_reference_is_not_worth_it(reference: DriftReference) -> None:
    assert Captured(reference).ask(rows(50, sure=0.95)) == []


def test_what_the_model_is_unsure_of_is_kept_whole(reference: DriftReference) -> None:
    x, y = rows(1, sure=0.5)
    (sample,) = Captured(reference).ask((x, y))
    assert sample.why == ("low-confidence",)
    assert sample.confidence == pytest.approx(0.5)
    (tensor,) = sample.inputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", "FP32", (1, 4))
    assert tensor.data == x.tobytes()
    assert sample.outputs[0].data == y.tobytes()
    assert (sample.model, sample.release, sample.artifact) == ("digits", 2, "1" * 64)


def test_values_outside_the_reference_and_no_numbers_are_kept(reference: DriftReference) -> None:
    captured = Captured(reference)
    (far,) = captured.ask(rows(1, low=5.0, high=6.0, sure=0.95))
    x, y = rows(1, sure=0.95)
    x[0, 0] = np.nan
    (missing,) = captured.ask((x, y))
    assert far.why == missing.why == ("outside-reference",)
    assert far.score > missing.score


def test_a_bin_that_has_far_more_rows_than_it_should_is_noticed(reference: DriftReference) -> None:
    captured = Captured(reference)
    for _ in range(4):
        captured.ask(rows(ROWS_A_SECOND, low=0.91, high=0.99, sure=0.95))
    assert captured.samples
    assert {sample.why for sample in captured.samples} == {("over-represented",)}


def test_only_the_reasons_that_the_owner_wants(reference: DriftReference) -> None:
    policy = SamplePolicy(
        reasons=("low-confidence",), low_confidence_share=0.02, per_hour=3600, maximum_bytes=4096
    )
    captured = Captured(reference, policy)
    assert captured.ask(rows(1, low=5.0, high=6.0, sure=0.95)) == []
    assert len(captured.ask(rows(1, sure=0.4))) == 1


def test_one_input_is_one_sample_and_a_stuck_camera_gives_few(reference: DriftReference) -> None:
    captured = Captured(reference)
    x, y = rows(1, low=5.0, high=6.0, sure=0.95)
    assert len(captured.ask((x, y))) == 1
    assert captured.ask((x, y)) == []
    for step in range(1, 200):
        captured.ask((x + np.float32(step * 1e-3), y))
    assert len(captured.samples) == 3


def test_no_more_than_it_may_and_the_most_informative_first(reference: DriftReference) -> None:
    policy = SamplePolicy(reasons=EVERY.reasons, low_confidence_share=0.02, per_hour=12, maximum_bytes=4096)
    captured = Captured(reference, policy)
    x, y = rows(40, sure=0.7)
    x[:, 0] = np.linspace(0.05, 0.95, 40)
    y[17] = [0.34, 0.33, 0.33]
    taken = captured.ask((x, y))
    assert len(taken) == 2  # a sixth of an hour's at once
    assert taken[0].confidence == pytest.approx(0.34)
    for _ in range(60):
        captured.ask(rows(40, sure=0.5), seconds=60.0)
    assert 2 + 11 <= len(captured.samples) <= 2 + 12


def test_a_second_costs_a_bounded_number_of_copies(reference: DriftReference) -> None:
    captured = Captured(reference)
    for _ in range(20):
        x, y = rows(50)
        captured.capture.add({"x": x}, {"y": y}, NO_FACTS, 0.0)
    assert len(captured.capture._rows) == ROWS_A_SECOND


def test_what_is_too_large_or_text_is_never_copied(reference: DriftReference) -> None:
    captured = Captured(reference)
    large = np.zeros((1, 2000), np.float32)
    captured.capture.add({"x": large}, {"y": rows(1)[1]}, NO_FACTS, 0.0)
    captured.capture.add({"x": np.array([b"who"], dtype=object)}, {"y": rows(1)[1]}, NO_FACTS, 0.0)
    assert captured.capture._rows == []


def test_what_is_kept_does_not_change_with_the_requests_own_memory(reference: DriftReference) -> None:
    captured = Captured(reference)
    x, y = rows(1, low=5.0, high=6.0, sure=0.95)
    before = x.tobytes()
    captured.capture.add({"x": x}, {"y": y}, NO_FACTS, 0.0)
    x[:] = 0.0  # shared memory is its owner's
    captured.capture.tick(1.0)
    assert captured.samples[0].inputs[0].data == before


def start(reference: Path, policy: SamplePolicy | None) -> Start:
    spec = (TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),)
    return Start(
        model="digits",
        release=2,
        deployment="d-1",
        variant="v",
        runtime="onnx",
        artifact_path="/nowhere",
        artifact_sha256="1" * 64,
        inputs=spec,
        outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 3)),),
        labels=(),
        reference_path=str(reference),
        private_fd=0,
        shared_fds=(),
        threads=1,
        default_deadline_ms=1.0,
        maximum_body_bytes=1,
        queue_depth=1,
        samples=policy,
    )


def test_off_means_that_nothing_is_copied_and_nothing_told(
    reference: DriftReference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reference.json"
    path.write_bytes(encode_reference(reference))
    looked: list[object] = []
    monkeypatch.setattr(SampleCapture, "add", lambda *arguments: looked.append(arguments))
    told: list[object] = []
    for policy, seen in ((None, 0), (EVERY, 1)):
        books = open_books(start(path, policy), told.append).keeping
        x, y = rows(1, low=5.0, high=6.0, sure=0.95)
        books.add({"x": x}, {"y": y}, NO_FACTS)
        books.tick()
        assert len(looked) == seen
    assert not any(isinstance(message, SampleTaken) for message in told)


def test_what_the_release_asks_for_of_its_counts_goes_with_its_predictions(
    reference: DriftReference, tmp_path: Path
) -> None:
    """Its labels may be counted before its first window has closed."""
    asked = CountPrivacy(mechanism="noised", epsilon=0.5)
    path = tmp_path / "reference.json"
    path.write_bytes(encode_reference(replace(reference, policy=replace(reference.policy, privacy=asked))))
    told: list[object] = []
    books = open_books(
        replace(start(path, None), labels=("a", "b", "c"), predictions_per_minute=9), told.append
    ).keeping
    x, y = rows(1, low=5.0, high=6.0, sure=0.95)
    books.add({"x": x}, {"y": y}, RequestFacts("r-1"))
    books.tick()
    assert [each.privacy for each in told if isinstance(each, Predicted)] == [asked]


def test_a_declared_sentinel_is_no_value_outside_and_an_unknown_category_is(
    reference: DriftReference,
) -> None:
    known = SignalReference(
        name="kind",
        source="input",
        tensor="x",
        summary="category",
        index=0,
        categories=(3, 7),
        edges=(-0.5, 0.5, 1.5),
        counts=(0, 50, 50, 0),
        missing=0,
    )
    absent = SignalReference(
        name="age",
        source="input",
        tensor="x",
        summary="value",
        index=1,
        missing_value=-1.0,
        edges=(0.0, 50.0, 100.0),
        counts=(0, 40, 40, 0),
        missing=20,
    )
    unsure = SignalReference(
        name="entropy",
        source="output",
        tensor="y",
        summary="entropy",
        edges=(0.0, 0.2, 0.4),
        counts=(0, 98, 2, 0),
        missing=0,
    )
    given = DriftReference(
        schema=1,
        dataset_sha256="0" * 64,
        rows=100,
        signals=(known, absent, unsure),
        policy=reference.policy,
    )
    capture: list[KeptSample] = []
    observer = SampleCapture(SERVED, given, EVERY, capture.append)
    y = np.array([[1.0, 0.0, 0.0]], np.float32)
    for row, answer in (
        ([3.0, -1.0], y),
        ([7.0, 100.0], y),
        ([5.0, 10.0], y),
        ([3.0, 10.0], np.array([[0.4, 0.3, 0.3]], np.float32)),
    ):
        observer.add({"x": np.array([row], np.float32)}, {"y": answer}, NO_FACTS, 0.0)
        observer.tick(1.0)
    assert [(each.inputs[0].data[:4], each.why) for each in capture] == [
        (np.float32(5.0).tobytes(), ("outside-reference",)),
        (np.float32(3.0).tobytes(), ("low-confidence",)),
    ]
    assert capture[1].confidence is None  # entropy is none
