"""Slices: whatever requests say, each slice counts exactly its own rows, there are never too many, and the whole is not changed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.drift import ClosedWindow, Identity, SignalSpec, WindowBuilder, build_reference
from agent.protocol.drift import DriftPolicy, SlicePolicy
from agent.runner.drift_log import SlicedDriftLog
from agent.runner.request_facts import RequestFacts, value_text
from agent.runner.slice_names import SliceNames
from agent.runner.slice_windows import SliceWindows
from tests.property.runner.json_values import json_values

RNG = np.random.default_rng(0)
X = RNG.uniform(0, 1, (4_000, 3)).astype(np.float32)
REFERENCE = build_reference(
    [
        SignalSpec(name=f"x{index}", source="input", tensor="x", summary="value", index=index)
        for index in range(3)
    ],
    inputs={"x": X},
    outputs={},
    dataset_sha256="0" * 64,
    policy=DriftPolicy(window_rows=10**6, window_seconds=1e6, minimum_rows=10),
)


def builder(name: str | None, also: object = None) -> WindowBuilder:
    identity = Identity(model="m", release=1, deployment="d", artifact="0" * 64, slice=name)
    return WindowBuilder(identity, REFERENCE, also=also)  # type: ignore[arg-type]


def sliced(policy: SlicePolicy) -> tuple[SlicedDriftLog, list[ClosedWindow]]:
    closed: list[ClosedWindow] = []
    slices = SliceWindows(builder)
    log = SlicedDriftLog(
        builder(None, slices.take),
        closed.append,
        lambda _: None,
        names=SliceNames(policy),
        slices=slices,
        measure=lambda inputs, _: len(inputs["x"]),
    )
    return log, closed


batches = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "c", "d", "other"]), st.integers(1, 9) | st.just(700)),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(batches=batches, maximum=st.integers(1, 3), declared=st.booleans())
def test_slices_count_their_own_rows(
    batches: list[tuple[str | None, int]],
    maximum: int,
    declared: bool,  # noqa: FBT001 - drawn
) -> None:
    values = ("a", "b", "c")[:maximum] if declared else ()
    log, closed = sliced(SlicePolicy(parameter="camera", values=values, maximum=maximum))
    expected: dict[str | None, WindowBuilder] = {None: builder(None)}
    told_apart: list[str] = list(values)
    start = 0
    for value, rows in batches:
        x = {"x": X[start : start + rows]}
        start = (start + rows) % 3_000
        log.add(x, {}, RequestFacts("", value), 1.0)
        expected[None].add(x, {}, 1.0)
        if value is None:
            continue
        if value != "other" and value not in told_apart and not declared and len(told_apart) < maximum:
            told_apart.append(value)
        name = f"camera={value if value in told_apart else 'other'}"
        expected.setdefault(name, builder(name)).add(x, {}, 1.0)
    log.close(2.0)
    found = {one.window.slice: one.window for one in closed}
    assert len(found) == len(closed) <= maximum + 2
    alone = {name: one.close(2.0) for name, one in expected.items()}
    assert found == {name: one.window for name, one in alone.items() if one is not None}


@settings(deadline=None, max_examples=60)
@given(given=st.lists(json_values, max_size=60), maximum=st.integers(1, 16))
def test_whatever_stands_in_a_request_makes_no_more_slices_and_none_that_is_not_plain(
    given: list[bytes], maximum: int
) -> None:
    names = SliceNames(SlicePolicy(parameter="camera", maximum=maximum))
    found = {names.name(RequestFacts("", value_text(raw))) for raw in given} - {None}
    assert len(found) <= maximum + 1
    for name in found:
        assert name is not None
        assert name.startswith("camera=")
        assert len(name) <= len("camera=") + 64
        assert name.isprintable()
