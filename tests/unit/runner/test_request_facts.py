import json
from typing import Any

import numpy as np
import pytest

from agent.protocol.drift import MAX_SLICE_VALUE, OTHER_SLICE, RESERVED_PARAMETERS
from agent.runner import openinference
from agent.runner.openinference import Contract, Decoder
from agent.runner.request_facts import MAX_ID, NO_FACTS, RequestFacts, value_text
from agent.runner.shared_memory import Regions
from tests.contract.runner import tiny_models as tiny

X = np.zeros((1, 4), np.float32).tobytes()


def decoder(parameter: str | None = "camera") -> Decoder:
    contract = Contract(tiny.INPUTS, tiny.OUTPUTS, parameter=parameter)
    return Decoder(contract, Regions("off", maximum_bytes=1 << 20))


def binary(**more: Any) -> tuple[bytes, int]:
    head = json.dumps(
        more
        | {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": [1, 4],
                    "parameters": {"binary_data_size": len(X)},
                }
            ]
        }
    ).encode()
    return head + X, len(head)


def facts(**more: Any) -> RequestFacts:
    return decoder().decode(*binary(**more)).facts


def test_the_id_and_the_watched_parameter_reach_whoever_keeps_books() -> None:
    assert facts(id="r-1", parameters={"camera": "left", "other": [1]}) == RequestFacts("r-1", "left")
    assert facts(parameters={"camera": "left"}) == RequestFacts("", "left")
    assert facts(id="r-1") == RequestFacts("r-1", None)


def test_a_request_without_either_has_no_facts_of_its_own() -> None:
    assert facts() is NO_FACTS
    assert facts(parameters={"timeout": 10, "camera": None}) == NO_FACTS
    assert decoder(None).decode(*binary(parameters={"camera": "left"})).facts is NO_FACTS


def test_a_remembered_json_has_each_requests_own_id() -> None:
    take = decoder().decode
    told = [take(*binary(id=f"r-{n}", parameters={"camera": "left"})).facts for n in range(3)]
    assert told == [RequestFacts(f"r-{n}", "left") for n in range(3)]


def test_the_known_parameters_are_still_checked() -> None:
    assert decoder().decode(*binary(parameters={"timeout": 5, "camera": 1})).deadline_s == 5e-6
    with pytest.raises(Exception, match=r"Expected `int`, got `str` - at `\$.parameters.timeout`"):
        decoder().decode(*binary(parameters={"timeout": "5", "camera": 1}))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('"left"', "left"),
        ('"le\\u0066t"', "left"),
        ('"größe 2"', "größe 2"),
        ("7", "7"),
        ("7.5", "7.5"),
        ("true", "true"),
        ("null", None),
        ('""', OTHER_SLICE),
        ('"\\u001b[2J"', OTHER_SLICE),
        ('"a\\nb"', OTHER_SLICE),
        ('"a=b"', OTHER_SLICE),
        ('["left"]', OTHER_SLICE),
        ('{"a": 1}', OTHER_SLICE),
        ("9" * 65, OTHER_SLICE),
        (f'"{"x" * MAX_SLICE_VALUE}"', "x" * MAX_SLICE_VALUE),
        (f'"{"x" * (MAX_SLICE_VALUE + 1)}"', OTHER_SLICE),
        (f'"{"x" * 1_000_000}"', OTHER_SLICE),
        ("1e999", OTHER_SLICE),
        ('"\\ud800"', OTHER_SLICE),
        ("[" * 300 + "]" * 80, OTHER_SLICE),
    ],
)
def test_a_value_is_text_or_other(written: str, text: str | None) -> None:
    assert value_text(written.encode()) == text


@pytest.mark.parametrize("written", [b"1e999", b'"\xff\xfe"', b"[" * 100 + b"1e999" + b"]" * 100])
def test_a_value_that_is_none_refuses_no_request(written: bytes) -> None:
    body, length = binary(parameters={"camera": "HERE"})
    head = body[:length].replace(b'"HERE"', written)
    plain, sliced = (decoder(parameter).decode(head + X, len(head)) for parameter in (None, "camera"))
    assert (plain.facts, sliced.facts) == (NO_FACTS, RequestFacts("", OTHER_SLICE))


@pytest.mark.parametrize("request_id", ["x" * (MAX_ID + 1), "a\x1b[2J", "a\nb", "a\u202eb"])
def test_an_id_that_nobody_could_ask_by_is_not_remembered(request_id: str) -> None:
    assert facts(id=request_id) is NO_FACTS
    assert decoder().decode(*binary(id=request_id)).id == request_id


def test_what_means_something_in_every_request_makes_no_slices() -> None:
    assert set(openinference._RequestParameters.__struct_fields__) <= RESERVED_PARAMETERS
