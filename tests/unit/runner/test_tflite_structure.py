"""Only what stays inside the file passes."""

import random

import pytest

from agent.runner.backends import BackendError, UnreadableModelError
from agent.runner.backends.tflite_structure import check_structure
from tests.contract.runner import tiny_models as tiny
from tests.contract.runner import tiny_tflite as made

FILES = {
    "linear": tiny.tflite_linear(),
    "int8": tiny.tflite_linear(quantized=True),
    "signed": made.sum_and_difference(signatures=["serve"]),
    "loop": made.endless_loop(),
    "text": made.copy("BYTES"),
}


@pytest.fixture(params=list(FILES))
def content(request: pytest.FixtureRequest) -> bytes:
    return FILES[request.param]


def test_ordinary_files_pass(content: bytes) -> None:
    check_structure(content)


def test_half_a_file_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableModelError, match="a reference leaves the file"):
        check_structure(content[: len(content) // 2])


def test_a_reference_before_the_file_or_behind_it_is_refused(content: bytes) -> None:
    for root in (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", len(content).to_bytes(4, "little")):
        with pytest.raises(UnreadableModelError):
            check_structure(root + content[4:])


def test_a_file_without_graphs_is_refused() -> None:
    model = made.Model()
    model.made.subgraphs = None
    with pytest.raises(UnreadableModelError, match="kind model lacks field 2"):
        check_structure(model.content())


def test_any_change_is_refused_as_a_model_or_passes(content: bytes) -> None:
    chance = random.Random(0)
    refused = 0
    for _ in range(2_000):
        changed = bytearray(content)
        for _ in range(3):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            check_structure(bytes(changed))
        except BackendError:
            refused += 1
    assert refused > 200
