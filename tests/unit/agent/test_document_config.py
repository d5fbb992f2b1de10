"""The settings pages are made from the structs, and say what the structs say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import fields

from agent.cli import document_config
from agent.config import AgentConfig
from agent.protocol.settings import settings_page
from cloud_hub.cli import document_config as hub_document_config

DOCS = Path(__file__).parents[3] / "docs"


def test_the_agents_page_is_current() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert page == document_config.document(), "python -m agent.cli.document_config > docs/configuration.md"


def test_the_hubs_page_is_current() -> None:
    page = (DOCS / "hub-configuration.md").read_text(encoding="utf-8")
    assert page == hub_document_config.document(), (
        "python -m cloud_hub.cli.document_config > docs/hub-configuration.md"
    )


def tables(kind: Any, path: str) -> Iterator[tuple[str, type[Struct]]]:
    """Every table of the file that ``kind`` is, may be, or has entries of."""
    if get_origin(kind) is dict:
        yield from tables(get_args(kind)[1], f"{path}.<name>")
        return
    for arm in (kind, *get_args(kind)):
        if isinstance(arm, type) and issubclass(arm, Struct):
            yield path, arm
            for field in fields(arm):
                yield from tables(field.type, f"{path}.{field.name}".removeprefix("."))


def is_table(kind: Any) -> bool:
    return get_origin(kind) is not dict and bool(list(tables(kind, "")))


def test_every_setting_has_a_row_in_its_section() -> None:
    sections = document_config.document().split("\n## ")
    _, *found = tables(AgentConfig, "")
    assert "serving.outputs.<name>" in dict(found)
    for path, kind in found:
        text = next(part for part in sections if part.startswith(f"`[{path}]`"))
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        wanted = [field.name for field in fields(kind) if not is_table(field.type)]
        assert [row.split("`")[1] for row in rows] == wanted


def test_the_default_shown_is_the_default() -> None:
    for section in fields(AgentConfig):
        for field in fields(section.type):
            if field.default not in {msgspec.NODEFAULT, None, ()}:
                row = f"| `{field.name}` | `{msgspec.json.encode(field.default).decode()}` |"
                assert row in document_config.document()


class Undocumented(Struct):
    colour: str = "red"


def test_a_setting_without_a_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Undocumented\.colour has no docstring"):
        settings_page(Undocumented, "class Undocumented:\n    colour: str = 'red'\n")
