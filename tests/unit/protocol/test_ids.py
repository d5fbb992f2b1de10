"""The one rule of names, and what goes into paths."""

from typing import Any

import msgspec
import pytest

from agent.protocol.enrolment import EnrolmentRequest
from agent.protocol.ids import Count, Name, Sha256, UnixTime, Version, is_name, release_path
from agent.protocol.manifest import Filename
from agent.protocol.transfer import MetadataName


@pytest.mark.parametrize("name", ["a", "7", "camera-1", "a.b_c-d", "a" * 64])
def test_names(name: str) -> None:
    assert is_name(name)
    assert msgspec.convert(name, Name) == name


@pytest.mark.parametrize(
    "name",
    ["", "A", "-a", "a-", ".", "..", "a/b", "a b", "a+", "#", "ä", "a" * 65, "a\n", "\na", "a\x00", "a\n\n"],
)
def test_no_names(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, Name)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Sha256, "0" * 64, ["0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n"]),
        (Version, 1, [0, -1, 2**53 + 1, 1.5, "1"]),
        (Count, 0, [-1, 2**53 + 1]),
        (UnixTime, 0.0, [-0.5, float("nan"), "now"]),
        (Filename, "model.onnx", ["", ".hidden", "a/b", "..", "a" * 129, "a\n"]),
        (
            MetadataName,
            "3.root.json",
            ["root", "../root.json", "3.root.json\n", "a/b.json", "?.json"],
        ),
    ],
)
def test_what_each_kind_allows(kind: Any, good: object, bad: list[object]) -> None:
    assert msgspec.convert(good, kind) == good
    for value in bad:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(value, kind)


def test_a_token_has_its_form() -> None:
    def request(token: str) -> EnrolmentRequest:
        fields = {"token": token, "device": "d", "hardware_class": "cpu", "csr": ""}
        return msgspec.convert(fields, EnrolmentRequest)

    good = f"ew1.{'A' * 22}.{'0' * 64}"
    assert request(good).token == good
    for bad in (good + "\n", good[1:], good.replace("ew1", "ew2"), f"ew1.short.{'0' * 64}", ""):
        with pytest.raises(msgspec.ValidationError, match=r"\$\.token"):
            request(bad)


def test_a_release_file_has_its_target_path() -> None:
    assert release_path("digits", 3, "manifest.json") == "models/digits/3/manifest.json"


@pytest.mark.parametrize("time", [1e300, float("inf"), float("nan"), -1.0, 253_402_300_800.0])
def test_a_time_that_no_calendar_has_is_refused(time: float) -> None:
    with pytest.raises(msgspec.ValidationError, match="float"):
        msgspec.msgpack.decode(msgspec.msgpack.encode(time), type=UnixTime)


def test_the_last_second_of_the_calendar_is_a_time() -> None:
    assert msgspec.convert(253_402_300_799.0, UnixTime) == 253_402_300_799.0
