"""A wrong setting in a file of any depth is named; a right one is not."""

from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct

from agent.protocol.settings import settings_page, wrong_setting

SOURCE = '''
class Tls(Struct, frozen=True):
    """``[link.tls]``: files."""

    key: str
    """Private | key."""


class Link(Struct, frozen=True):
    """How to reach it."""

    port: int = 1
    """Port."""
    tls: Tls | None = None
    """Only where it is secure."""


class File(Struct, frozen=True):
    """The whole file."""

    mode: Literal["a", "b"] = "a"
    """What it
    does."""
    link: Link = Link()
'''


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    key: str


class Link(Struct, frozen=True, forbid_unknown_fields=True):
    port: Annotated[int, Meta(ge=1, le=9)] = 1
    tls: Tls | None = None


class File(Struct, frozen=True, forbid_unknown_fields=True):
    mode: Literal["a", "b"] = "a"
    names: dict[str, Annotated[str, Meta(max_length=3)]] = {}
    link: Link = Link()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"link": {"tls": {"kee": 1}}}, "link.tls.kee = 1: there is no such setting; allowed here: key"),
        ({"link": {"tls": {}}}, "link.tls.key: is missing and has no default; allowed: text"),
        ({"link": {"tls": 3}}, "link.tls = 3: allowed: a table"),
        ({"link": {"port": 10}}, "link.port = 10: allowed: a whole number ≥ 1, ≤ 9"),
        ({"link": []}, "link = []: allowed: a table, [link]"),
        ({"mode": 1}, 'mode = 1: allowed: "a", "b"'),
        ({"names": {"x": "long"}}, "names.x = 'long': allowed: text of 0-3 characters"),
        ({"names": 1}, "names = 1: allowed: a table: text → text of 0-3 characters"),
    ],
)
def test_the_first_wrong_setting_is_named(raw: object, said: str) -> None:
    assert wrong_setting(raw, File) == said


@pytest.mark.parametrize("raw", [{}, {"link": {"tls": {"key": "k"}, "port": 9}}, {"names": {"x": "abc"}}])
def test_nothing_is_said_of_what_is_right(raw: object) -> None:
    assert wrong_setting(raw, File) == ""


class Documented(Struct, frozen=True):
    mode: Literal["a", "b"] = "a"
    link: Link = Link()


def test_the_page_shows_sections_with_their_settings() -> None:
    page = settings_page(Documented, SOURCE.replace("class File", "class Documented"))
    assert '| `mode` | `"a"` | "a", "b" | What it does. |' in page
    assert "## `[link]`\n\nHow to reach it." in page
    assert "| `port` | `1` | a whole number ≥ 1, ≤ 9 | Port. |" in page
    assert "## `[link.tls]`\n\nFiles." in page
    assert "| `key` | none: must be set | text | Private \\| key. |" in page
