"""The wire is pinned: a sample of every message, whose bytes may not change."""

import msgspec
import pytest

from agent.protocol.manifest import decode_manifest
from tests.contract.protocol.samples import GOLDEN, MANIFEST, SAMPLES, Sample
from tests.contract.protocol.wire import decode, encode, fields_that_show, structs_in, wire_structs

each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name for sample in SAMPLES])


def golden_bytes(sample: Sample) -> bytes:
    assert sample.path.exists(), (
        "a new message: python -m tests.contract.protocol.samples, then look at the file"
    )
    return sample.path.read_bytes().removesuffix(b"\n")


@each_sample
def test_the_golden_bytes_decode_to_the_message_they_always_meant(sample: Sample) -> None:
    decoded = decode(golden_bytes(sample), sample.kind, sample.format)
    assert type(decoded) is type(sample.message)
    assert decoded == sample.message


@each_sample
def test_the_message_encodes_to_the_golden_bytes(sample: Sample) -> None:
    golden = golden_bytes(sample)
    assert encode(decode(golden, sample.kind, sample.format), sample.format) == golden
    assert encode(sample.message, sample.format) == golden


def test_every_struct_of_the_wire_stands_in_a_sample() -> None:
    sampled = {type(struct) for sample in SAMPLES for struct in structs_in(sample.message)}
    missing = sorted(kind.__qualname__ for kind in wire_structs() - sampled)
    assert missing == [], "add them to tests/contract/protocol/samples.py"


def test_every_field_of_the_wire_shows_in_a_sample() -> None:
    shown = set().union(*(fields_that_show(sample.message) for sample in SAMPLES))
    every = {(kind, field.name) for kind in wire_structs() for field in msgspec.structs.fields(kind)}
    # `v` has one allowed value; it stands in every sample of its message, because msgspec writes defaults.
    missing = sorted(f"{kind.__qualname__}.{name}" for kind, name in every - shown if name != "v")
    assert missing == [], "give them a value that is not their default in tests/contract/protocol/samples.py"


def test_every_versioned_message_says_its_version() -> None:
    versioned = [sample for sample in SAMPLES if "v" in type(sample.message).__struct_fields__]
    assert len(versioned) >= 15
    for sample in versioned:
        marker = b'{"v":1,' if sample.format == "json" else b"a17601"
        assert marker in golden_bytes(sample), sample.name


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {sample.path.name for sample in SAMPLES}


def test_the_golden_manifest_is_a_manifest() -> None:
    assert decode_manifest((GOLDEN / "manifest.json").read_bytes()) == MANIFEST
