"""A real runner: requests with an id and a slice, what it tells of them, and labels that clients send to it."""

import threading
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from agent.drift import SignalSpec, build_reference, encode_reference
from agent.protocol.drift import DriftPolicy, SlicePolicy
from agent.protocol.labels import LabelAnswer
from agent.protocol.runner import (
    Accept,
    Accepting,
    LabelAccess,
    LabelsGiven,
    LabelsJoined,
    Predicted,
    Stop,
    WindowClosed,
)
from tests.contract.runner import tiny_models as tiny
from tests.integration.runner.runner_under_test import RunnerUnderTest

LABELS = {"labels": [{"request": "r-1", "label": "b", "origin": "system"}]}
PATH = "/v2/models/tiny/labels"


def reference() -> bytes:
    x = np.random.default_rng(0).normal(0, 1, (1_000, 4)).astype(np.float32)
    made = build_reference(
        [
            SignalSpec(name="x0", source="input", tensor="x", summary="value", index=0),
            SignalSpec(name="class", source="output", tensor="y", summary="argmax"),
        ],
        inputs={"x": x},
        outputs={"y": tiny.expected(x).astype(np.float32)},
        dataset_sha256="0" * 64,
        policy=DriftPolicy(slices=SlicePolicy(parameter="camera", maximum=2)),
    )
    return encode_reference(made)


def load(runner: RunnerUnderTest, labels_from: LabelAccess = "unix+tcp", **changes: Any) -> None:
    start = msgspec.structs.replace(
        runner.start_message(**changes), predictions_per_minute=100, labels_from=labels_from
    )
    runner.send(start)
    runner.send(Accept())
    runner.wait_for(Accepting)


def infer(client: httpx.Client, x: list[list[float]], **more: Any) -> httpx.Response:
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(x), 4], "data": x}
    answer = client.post("/v2/models/tiny/infer", json={"inputs": [tensor], **more})
    assert answer.status_code == 200, answer.text
    return answer


def test_predictions_are_told_with_their_slice_and_windows_come_by_slice(
    runner: RunnerUnderTest, address: str
) -> None:
    load(runner, reference=reference())
    with httpx.Client(base_url=f"http://{address}") as client:
        infer(client, [[1, 0, 0, 0]], id="r-1", parameters={"camera": "left"})
        infer(client, [[0, 0, 0, 1], [1, 0, 0, 0]], id="r-2", parameters={"camera": "right"})
        infer(client, [[1, 0, 0, 0]], parameters={"camera": ["\x1b[2J"]})
        infer(client, [[1, 0, 0, 0]], id="r-3")
        infer(client, [[1, 0, 0, 0]], parameters={"camera": "a third one"})
    told = runner.wait_for(Predicted).predictions
    while len(told) < 4:
        told += runner.wait_for(Predicted).predictions
    y = tiny.expected(np.array([[1, 0, 0, 0], [0, 0, 0, 1]], np.float32))
    names = ["abc"[index] for index in y.argmax(axis=1)]
    assert [(each.request, each.slice, each.label) for each in told] == [
        ("r-1", "camera=left", names[0]),
        ("r-2#0", "camera=right", names[1]),
        ("r-2#1", "camera=right", names[0]),
        ("r-3", None, names[0]),
    ]
    assert [each.confidence for each in told] == pytest.approx([y.max(axis=1)[i] for i in (0, 1, 0, 0)])
    runner.send(Stop())
    windows = [each.window for each in runner.heard_to_the_end() if isinstance(each, WindowClosed)]
    assert {window.slice: window.rows for window in windows} == {
        None: 6,
        "camera=left": 1,
        "camera=right": 2,
        "camera=other": 2,
    }


def answer_labels(runner: RunnerUnderTest, **answer: Any) -> tuple[threading.Thread, list[LabelsGiven]]:
    """Be the supervisor for one message."""
    given: list[LabelsGiven] = []

    def join() -> None:
        given.append(runner.wait_for(LabelsGiven))
        runner.send(LabelsJoined(call=given[0].call, **answer))

    thread = threading.Thread(target=join)
    thread.start()
    return thread, given


def test_labels_are_passed_on_and_answered_one_by_one(runner: RunnerUnderTest, address: str) -> None:
    load(runner)
    joined = LabelAnswer(request="r-1", outcome="joined", text="release 1 said a")
    with httpx.Client(base_url=f"http://{address}") as client:
        infer(client, [[1, 0, 0, 0]], id="r-1")
    thread, given = answer_labels(runner, answers=(joined,))
    answer = httpx.post(f"http://{address}{PATH}", json=LABELS)
    thread.join()
    assert answer.status_code == 200
    assert answer.json() == {"answers": [{"request": "r-1", "outcome": "joined", "text": "release 1 said a"}]}
    told = next(each for each in runner.heard if isinstance(each, Predicted))
    assert [each.request for each in told.predictions] == ["r-1"]  # before the labels that are about it
    (label,) = given[0].labels
    assert (label.request, label.label, label.origin) == ("r-1", "b", "system")
    thread, _ = answer_labels(runner, problem="labels can't be joined now: the disk is full")
    refused = httpx.post(f"http://{address}/v2/models/tiny/versions/1/labels", json=LABELS)
    thread.join()
    assert (refused.status_code, refused.json()["error"]) == (
        503,
        "labels can't be joined now: the disk is full",
    )


HOSTILE = [
    (b"{", 400, "labels: "),
    (b'{"labels": []}', 400, "labels: "),
    (b'{"labels": [{"request": "r", "label": "b", "origin": "god"}]}', 400, "origin"),
    (b'{"labels": [{"request": "\\u001b[2J", "label": "b", "origin": "person"}]}', 400, "request"),
    (b'{"labels": [{"request": "r", "label": "b", "origin": "person", "why": 1}]}', 400, "why"),
    (b'{"labels": [' + b" " * 200_000 + b"]}", 413, "at most 131072 and 500 labels a message"),
    (b"[" * 100_000, 400, "labels: "),
]


def test_what_is_no_label_is_refused_before_the_supervisor_is_asked(
    runner: RunnerUnderTest, address: str
) -> None:
    load(runner)
    with httpx.Client(base_url=f"http://{address}") as client:
        for body, status, text in HOSTILE:
            answer = client.post(PATH, content=body)
            assert answer.status_code == status, answer.text
            assert text in answer.json()["error"]
        assert client.get(PATH).status_code == 405
        assert client.post("/v2/models/other/labels", json=LABELS).status_code == 404


def test_labels_are_taken_where_the_owner_says(runner: RunnerUnderTest, address: str) -> None:
    load(runner, "unix")
    refused = httpx.post(f"http://{address}{PATH}", json=LABELS)
    assert refused.status_code == 403
    assert "only on the models' Unix sockets (setting labels.http = 'unix')" in refused.json()["error"]
    thread, _ = answer_labels(runner, answers=())
    transport = httpx.HTTPTransport(uds=str(runner.private_path))
    with httpx.Client(transport=transport, base_url="http://localhost") as client:
        assert client.post(PATH, json=LABELS).status_code == 200
    thread.join()
