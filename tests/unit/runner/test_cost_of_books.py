"""What ids and slices cost on the request path: nothing where a request carries none."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from agent.drift import Identity, SignalSpec, WindowBuilder, build_reference
from agent.protocol.drift import DriftPolicy, SlicePolicy
from agent.runner.bookkeeping import Bookkeeping, Observer
from agent.runner.drift_log import DriftLog, SlicedDriftLog
from agent.runner.prediction_log import Expectation, PredictionLog
from agent.runner.request_facts import NO_FACTS, RequestFacts
from agent.runner.slice_names import SliceNames
from agent.runner.slice_windows import SliceWindows
from tests.support.counts import count

SIGNALS, ROWS, ROUNDS = 64, 2_000, 7
X = np.random.default_rng(0).normal(0, 1, (5_000, SIGNALS)).astype(np.float32)
Y = np.random.default_rng(1).dirichlet(np.ones(10), 5_000).astype(np.float32)
REFERENCE = build_reference(
    [
        *(
            SignalSpec(name=f"x{index}", source="input", tensor="x", summary="value", index=index)
            for index in range(SIGNALS - 1)
        ),
        SignalSpec(name="sure", source="output", tensor="y", summary="confidence"),
    ],
    inputs={"x": X},
    outputs={"y": Y},
    dataset_sha256="0" * 64,
    policy=DriftPolicy(window_rows=10**9, window_seconds=1e9),
)


def books(*, sliced: bool, predictions: bool) -> Bookkeeping:
    def builder(name: str | None) -> WindowBuilder:
        return WindowBuilder(
            Identity(model="m", release=1, deployment="d", artifact="0" * 64, slice=name), REFERENCE
        )

    names = SliceNames(SlicePolicy(parameter="camera"))
    observers: dict[str, Observer] = {"drift": DriftLog(builder(None), lambda _: None, lambda _: None)}
    if sliced:
        slices = SliceWindows(builder)
        observers["drift"] = SlicedDriftLog(
            WindowBuilder(
                Identity(model="m", release=1, deployment="d", artifact="0" * 64), REFERENCE, also=slices.take
            ),
            lambda _: None,
            lambda _: None,
            names=names,
            slices=slices,
            measure=lambda inputs, _: len(inputs["x"]),
        )
    if predictions:
        observers["predictions"] = PredictionLog(
            "y",
            [str(digit) for digit in range(10)],
            per_minute=60_000,
            expectation=Expectation(REFERENCE),
            slice_of=names.name,
            told=lambda _: None,
        )
    return Bookkeeping(lambda: 1.0, observers)


def microseconds(kept: Bookkeeping, facts: Callable[[int], RequestFacts]) -> float:
    rows = [({"x": X[n : n + 1]}, {"y": Y[n : n + 1]}, facts(n)) for n in range(ROWS)]
    begun = time.thread_time()
    for inputs, outputs, each in rows:
        kept.add(inputs, outputs, each)
    assert not kept.errors
    return (time.thread_time() - begun) / ROWS * 1e6


def test_what_a_row_costs(request: pytest.FixtureRequest) -> None:
    ways: dict[str, tuple[Bookkeeping, Callable[[int], RequestFacts]]] = {
        "without": (books(sliced=False, predictions=False), lambda _: NO_FACTS),
        "with_a_prediction_log_and_no_id": (books(sliced=False, predictions=True), lambda _: NO_FACTS),
        "with_an_id": (books(sliced=False, predictions=True), lambda n: RequestFacts(f"r-{n}")),
        "in_one_of_three_slices": (
            books(sliced=True, predictions=False),
            lambda n: RequestFacts("", "abc"[n % 3]),
        ),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):  # by turns, so that a busy machine is as unfair to each
        for name, (kept, facts) in ways.items():
            best[name] = min(best[name], microseconds(kept, facts))
    rounded = {name: round(value, 2) for name, value in best.items()}
    count(request, f"bookkeeping of a row of {SIGNALS} signals, microseconds", **rounded)
    # Wide, for a machine with much else to do; without an id it is a call and a comparison.
    assert best["with_a_prediction_log_and_no_id"] < best["without"] + 10
    assert max(best.values()) < best["without"] + 60
