"""Every backend computes, in batches of any size, always the same, and from any thread."""

import sys
import threading

import numpy as np
import pytest

from agent.runner.backends import (
    Backend,
    CancelledRunError,
    ContractMismatchError,
    InferenceError,
    available_runtimes,
    zeros,
)
from agent.runner.backends.support import Support
from tests.contract.runner.backends.subject import Subject, expected, rows, spec

KINDS = ["linear", "linear-int8"]
TOLERANCE = {"linear": 1e-6, "linear-int8": 0.1}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backend(subject: Subject, kind: str) -> Backend:
    return subject.linear(kind)


def test_it_names_its_library_and_version(backend: Backend, support: Support) -> None:
    assert backend.describe() == available_runtimes()[support.runtime]


def test_it_computes_the_model(backend: Backend, kind: str) -> None:
    x = rows(5)
    answer = backend.infer({"x": x})
    assert list(answer) == ["y"]
    assert answer["y"].dtype == np.float32
    np.testing.assert_allclose(answer["y"], expected(x), atol=TOLERANCE[kind])


@pytest.mark.parametrize("sizes", [(1, 7, 1, 3), (64, 1, 64)])
def test_any_batch_size_in_any_order_gives_each_row_the_same_answer(
    backend: Backend, kind: str, sizes: tuple[int, ...]
) -> None:
    x = rows(64)
    alone = np.concatenate([backend.infer({"x": x[i : i + 1]})["y"] for i in range(64)])
    for size in sizes:
        together = backend.infer({"x": x[:size]})["y"]
        if kind == "linear-int8":  # sums of integers don't depend on their order
            assert together.tobytes() == alone[:size].tobytes()
        np.testing.assert_allclose(together, alone[:size], atol=1e-6)


def test_the_same_input_gives_the_same_bits(backend: Backend) -> None:
    x = rows(9)
    first = backend.infer({"x": x})["y"].tobytes()
    backend.infer({"x": rows(3)})
    assert backend.infer({"x": x})["y"].tobytes() == first


def test_two_loads_of_one_file_give_the_same_bits(subject: Subject, kind: str) -> None:
    x = rows(9)
    first, second = (subject.linear(kind).infer({"x": x})["y"].tobytes() for _ in range(2))
    assert first == second


def test_warming_up_on_zeros_leaves_no_trace(subject: Subject, kind: str) -> None:
    cold, warm = subject.linear(kind), subject.linear(kind)
    for _ in range(3):
        warm.infer({"x": zeros("FP32", (1, 4))})
    x = rows(5)
    assert cold.infer({"x": x})["y"].tobytes() == warm.infer({"x": x})["y"].tobytes()


def test_an_answer_is_not_overwritten_by_the_next_one(backend: Backend) -> None:
    first = backend.infer({"x": rows(2, seed=1)})["y"]
    before = first.copy()
    backend.infer({"x": rows(2, seed=2)})
    np.testing.assert_array_equal(first, before)


def test_read_only_input_is_taken_and_left_alone(backend: Backend, kind: str) -> None:
    x = np.frombuffer(rows(2).tobytes(), np.float32).reshape(2, 4)
    np.testing.assert_allclose(backend.infer({"x": x})["y"], expected(x), atol=TOLERANCE[kind])


def test_a_wrong_shape_is_an_inference_error_and_the_next_request_is_answered(
    backend: Backend, kind: str
) -> None:
    for wrong in (np.zeros((2, 5), np.float32), np.zeros(4, np.float32), np.zeros((0, 5), np.float32)):
        with pytest.raises(InferenceError):
            backend.infer({"x": wrong})
    x = rows(2)
    np.testing.assert_allclose(backend.infer({"x": x})["y"], expected(x), atol=TOLERANCE[kind])


def test_a_missing_input_is_an_inference_error(backend: Backend) -> None:
    with pytest.raises(InferenceError):
        backend.infer({})


def test_inputs_and_outputs_are_told_apart_by_name(subject: Subject) -> None:
    a, b = rows(3, seed=1), rows(3, seed=2)
    answer = subject.pair().infer({"b": b, "a": a})
    assert list(answer) == ["sum", "difference"]
    np.testing.assert_array_equal(answer["sum"], a + b)
    np.testing.assert_array_equal(answer["difference"], a - b)


def test_an_output_that_is_not_declared_is_not_answered(subject: Subject) -> None:
    backend = subject.open(
        "pair", [spec("b", "FP32", -1, 4), spec("a", "FP32", -1, 4)], [spec("difference", "FP32", -1, 4)]
    )
    a, b = rows(1, seed=1), rows(1, seed=2)
    answer = backend.infer({"a": a, "b": b})
    assert list(answer) == ["difference"]
    np.testing.assert_array_equal(answer["difference"], a - b)


def test_batches_that_differ_between_inputs_fail_and_the_next_is_answered(subject: Subject) -> None:
    backend = subject.pair()
    with pytest.raises(InferenceError):
        backend.infer({"a": rows(3), "b": rows(2)})
    answer = backend.infer({"a": rows(2), "b": rows(2)})
    np.testing.assert_array_equal(answer["difference"], np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        (["image"], ["y"], r"inputs: the manifest declares image; the model file has x"),
        (["x"], ["z"], r"outputs: the manifest declares z; the model file has y"),
        (["x", "w"], ["y"], r"inputs: the manifest declares w, x; the model file has x"),
        ([], ["y"], r"inputs: the manifest declares .*; the model file has x"),
    ],
)
def test_a_file_of_other_names_is_refused(
    subject: Subject, kind: str, inputs: list[str], outputs: list[str], told: str
) -> None:
    with pytest.raises(ContractMismatchError, match=told):
        subject.open(
            kind,
            [spec(name, "FP32", -1, 4) for name in inputs],
            [spec(name, "FP32", -1, 3) for name in outputs],
        )


def test_a_file_of_other_shapes_or_data_types_is_refused(subject: Subject, kind: str) -> None:
    x, y = spec("x", "FP32", -1, 4), spec("y", "FP32", -1, 3)
    for inputs, outputs, told in (
        (spec("x", "FP32", -1, 5), y, r"input 'x': .* shape \[-1, 5\], the model file has \[-1, 4\]"),
        (spec("x", "FP32", 4), y, r"input 'x': .* shape \[4\]"),
        (spec("x", "INT64", -1, 4), y, r"input 'x': .* INT64, the model file has"),
        (spec("x", "BYTES", -1, 4), y, r"input 'x': .* BYTES, the model file has"),
        (x, spec("y", "FP64", -1, 3), r"output 'y': .* FP64, the model file has"),
    ):
        with pytest.raises(ContractMismatchError, match=told):
            subject.open(kind, [inputs], [outputs])


def heavy(subject: Subject) -> Backend:
    return subject.open("heavy", [spec("x", "FP32", -1, 1024)], [spec("y", "FP32", -1, 1024)])


def test_other_threads_go_on_while_a_model_runs(subject: Subject) -> None:
    backend, x = heavy(subject), np.ones((512, 1024), np.float32)
    backend.infer({"x": x})
    running, began = threading.Event(), threading.Event()

    def run() -> None:
        running.set()
        began.set()
        backend.infer({"x": x})
        running.clear()

    # No thread is made to let go: this one gets its turn only where the run gives up Python's lock by itself.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        worker = threading.Thread(target=run)
        worker.start()
        began.wait()
        went_on = running.is_set()
        worker.join()
    finally:
        sys.setswitchinterval(before)
    assert went_on == subject.support.releases_gil


def test_it_runs_in_one_thread_after_another(backend: Backend) -> None:
    x = rows(4)
    answers = [backend.infer({"x": x})["y"].tobytes()]
    for _ in range(3):
        worker = threading.Thread(target=lambda: answers.append(backend.infer({"x": x})["y"].tobytes()))
        worker.start()
        worker.join()
    assert len(answers) == 4
    assert len(set(answers)) == 1


def test_a_cancel_between_runs_does_nothing(backend: Backend) -> None:
    x = rows(2)
    first = backend.infer({"x": x})["y"].tobytes()
    backend.cancel()
    assert backend.infer({"x": x})["y"].tobytes() == first


def _note(backend: Backend, raised: list[Exception]) -> None:
    try:
        backend.infer({"x": rows(1)})
    except InferenceError as caught:
        raised.append(caught)


def test_a_run_without_end_is_cancelled(cancellable: Subject) -> None:
    backend = cancellable.open("endless", [spec("x", "FP32", -1, 4)], [spec("y", "FP32", -1, 4)])
    for _ in range(2):  # the second time as well
        raised: list[Exception] = []
        worker = threading.Thread(target=_note, args=(backend, raised), daemon=True)
        worker.start()
        while worker.is_alive():
            backend.cancel()
            worker.join(0.01)
        assert [type(error) for error in raised] == [CancelledRunError]
