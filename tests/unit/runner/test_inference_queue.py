import asyncio
import threading
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from agent.runner.backends import Array
from agent.runner.errors import DeadlineError, QueueFullError
from agent.runner.inference_queue import INLINE_SECONDS, InferenceQueue, Run, Tensors

ROW = {"x": np.zeros((1, 1))}


class Model:
    """Runs for as long as it is told to."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.begun = threading.Event()
        self.runs = 0
        self.cancelled = 0

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        self.begun.set()
        assert self.may_end.wait(20)
        self.runs += 1
        if "bad" in inputs:
            raise ValueError("bad input")
        return {"y": inputs["x"] + 1}

    def cancel(self) -> None:
        self.cancelled += 1
        self.may_end.set()


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
async def slow(model: Model) -> AsyncIterator[InferenceQueue]:
    inference = InferenceQueue(model.infer, depth=2, row_seconds=1.0, cancel=model.cancel)
    yield inference
    model.may_end.set()
    inference.close()


def run(inputs: Tensors = ROW, *, rows: int = 1, deadline_s: float = 20.0) -> Run:
    return Run(inputs, rows=rows, arrived=time.perf_counter(), deadline_s=deadline_s)


async def begun(model: Model) -> None:
    assert await asyncio.to_thread(model.begun.wait, 20)


async def test_results_and_errors_come_back_in_order(slow: InferenceQueue, model: Model) -> None:
    order: list[str] = []
    last = asyncio.Event()
    good, bad, again = run(), run({**ROW, "bad": ROW["x"]}), run()
    slow.run_later(good, lambda: order.append("good"))
    await begun(model)
    slow.run_later(bad, lambda: order.append("bad"))
    slow.run_later(again, last.set)
    assert slow.running_seconds > 0
    model.may_end.set()
    await last.wait()
    assert order == ["good", "bad"]
    assert good.result()["y"] == 1
    with pytest.raises(ValueError, match="bad input"):
        bad.result()
    assert good.arrived <= good.begun <= good.ended <= bad.begun
    assert slow.running_seconds == 0


async def test_a_full_queue_says_so_at_once_and_when_to_come_back(slow: InferenceQueue, model: Model) -> None:
    for _ in range(3):  # one that runs, two that wait
        slow.run_later(run(), lambda: None)
    with pytest.raises(QueueFullError, match="2 requests wait for this model already") as refused:
        slow.run_later(run(), lambda: None)
    assert refused.value.retry_after == 2
    assert model.runs == 0


async def test_one_that_waits_too_long_is_told_and_never_begun(slow: InferenceQueue, model: Model) -> None:
    told = asyncio.Event()
    slow.run_later(run(), lambda: None)
    await begun(model)
    late = run(deadline_s=0.01)
    slow.run_later(late, told.set)
    await told.wait()
    with pytest.raises(DeadlineError, match="was not begun"):
        late.result()
    after = asyncio.Event()
    slow.run_later(run(), after.set)
    model.may_end.set()
    await after.wait()
    assert model.runs == 2
    assert model.cancelled == 0


async def test_one_that_runs_too_long_is_told_and_cancelled(slow: InferenceQueue, model: Model) -> None:
    told = asyncio.Event()
    late = run(deadline_s=0.02)
    slow.run_later(late, told.set)
    await told.wait()
    with pytest.raises(DeadlineError, match="was given up"):
        late.result()
    assert model.cancelled == 1
    after = asyncio.Event()
    good = run()
    slow.run_later(good, after.set)
    await after.wait()
    assert good.result()["y"] == 1


async def test_nobody_runs_for_a_client_that_has_gone(slow: InferenceQueue, model: Model) -> None:
    slow.run_later(run(), lambda: None)
    await begun(model)
    gone, after = run(), asyncio.Event()
    gone.abandoned = lambda: True
    slow.run_later(gone, lambda: pytest.fail("nobody is there to be told"))
    slow.run_later(run(), after.set)
    model.may_end.set()
    await after.wait()
    assert model.runs == 2


async def test_quick_is_learnt_from_the_runs(model: Model) -> None:
    model.may_end.set()
    inference = InferenceQueue(model.infer, depth=2, row_seconds=INLINE_SECONDS / 10)
    assert inference.quick(10)
    assert not inference.quick(11)
    for _ in range(500):
        assert inference.run_now(run())["y"] == 1
    assert inference.quick(11)  # this model takes a few microseconds


async def test_one_run_that_was_held_up_does_not_make_a_model_slow_but_two_do(model: Model) -> None:
    def infer(inputs: Tensors) -> dict[str, Array]:
        time.sleep(0.02)
        return model.infer(inputs)

    model.may_end.set()
    inference = InferenceQueue(infer, depth=2, row_seconds=1e-5)
    inference.run_now(run())
    assert inference.quick(1)
    inference.run_now(run())
    assert not inference.quick(1)


async def test_nothing_is_run_inline_while_the_thread_is_busy(model: Model) -> None:
    inference = InferenceQueue(model.infer, depth=2, row_seconds=1e-6)
    done = asyncio.Event()
    inference.run_later(run(), done.set)
    assert not inference.quick(1)
    model.may_end.set()
    await done.wait()
    assert inference.quick(1)
    inference.close()


async def test_one_turn_of_the_loop_takes_no_more_than_may_wait(model: Model) -> None:
    inference = InferenceQueue(model.infer, depth=2, row_seconds=1e-6)
    assert inference.turn_began(5.0) == 5.0
    assert inference.turn_began(6.0) == 5.0  # it was waiting already when the first one was read
    with pytest.raises(QueueFullError):
        inference.turn_began(7.0)
    await asyncio.sleep(0)
    assert inference.turn_began(8.0) == 8.0


async def test_a_request_that_waited_too_long_for_its_turn_is_not_begun(model: Model) -> None:
    inference = InferenceQueue(model.infer, depth=2, row_seconds=1e-6)
    with pytest.raises(DeadlineError, match="was not begun"):
        inference.run_now(Run(ROW, rows=1, arrived=time.perf_counter() - 1, deadline_s=0.5))
    assert not model.begun.is_set()
