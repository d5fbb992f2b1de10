"""Only the documented fields leave: the hand-written table and the structs of every channel are the same."""

from pathlib import Path
from typing import get_args

import pytest
from msgspec import Struct
from msgspec.structs import fields

from agent.cli import document_privacy
from agent.cli.document_privacy import leaving
from agent.cli.leaves import BY_OTHER_WAYS, CHANNELS, LEAVES, MEANINGS
from agent.protocol import telemetry
from agent.protocol.topics import FROM_DEVICE

ROOT = Path(__file__).parents[3]


def differences(structs: list[type[Struct]], table: dict[str, dict[str, object]]) -> list[str]:
    """``+ Struct.field``: leaves and is not in the table; ``- Struct.field``: is in the table and does not leave."""
    found = {(struct.__name__, field.name) for struct in structs for field in fields(struct)}
    written = {(struct, field) for struct, entries in table.items() for field in entries}
    return [
        *(f"+ {struct}.{field}" for struct, field in sorted(found - written)),
        *(f"- {struct}.{field}" for struct, field in sorted(written - found)),
    ]


def test_every_field_that_leaves_has_its_entry_and_no_entry_is_of_the_past() -> None:
    table: dict[str, dict[str, object]] = {name: dict(entries) for name, entries in LEAVES.items()}
    assert differences(leaving(), table) == [], (
        "write in agent/cli/leaves.py what each field is for and what it can tell of a person"
    )


def test_a_field_that_is_added_without_an_entry_is_found() -> None:
    class Health(Struct):
        time: float
        neighbours: list[str]

    assert differences([Health], {"Health": {"time": "when"}}) == ["+ Health.neighbours"]


def test_every_channel_of_a_device_is_there() -> None:
    assert set(CHANNELS) == FROM_DEVICE


def test_every_kind_of_telemetry_is_reached() -> None:
    assert set(get_args(telemetry.Body)) <= set(leaving())


def test_no_two_structs_of_one_name_hide_each_other() -> None:
    names = [struct.__name__ for struct in leaving()]
    assert len(names) == len(set(names))


def test_every_entry_says_something() -> None:
    for struct, entries in LEAVES.items():
        for field, leaf in entries.items():
            assert len(leaf.purpose) > 3, f"{struct}.{field}"
            assert leaf.tells in MEANINGS


def test_what_shows_people_is_called_so() -> None:
    for struct in ("Sample", "SampleTensor"):
        assert any(leaf.tells == "content" for leaf in LEAVES[struct].values())
    content = {
        struct
        for struct, entries in LEAVES.items()
        if any(each.tells == "content" for each in entries.values())
    }
    assert content == {"Sample", "SampleTensor", "SampleAnswer"}


@pytest.mark.parametrize("way", BY_OTHER_WAYS)
def test_the_other_ways_are_on_the_page(way: str) -> None:
    assert way in document_privacy.document()


def test_the_page_is_as_made_now() -> None:
    assert (ROOT / "docs" / "privacy.md").read_text() == document_privacy.document(), "make docs"
