"""A reason's text is one printable, bounded line, whoever wrote part of it."""

import pytest

from agent.protocol.codec import decode_json
from agent.protocol.state import Reason
from agent.protocol.words import REASON_CHARACTERS, one_line


def test_plain_words_stay_as_they_are() -> None:
    assert one_line("p99 was 12.5 ms, 10 are allowed, grösser") == "p99 was 12.5 ms, 10 are allowed, grösser"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("one\ntwo\r", r"one\ntwo\r"),
        ("\u202egnihton", r"\u202egnihton"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert one_line(text) == shown


@pytest.mark.parametrize("text", ["x" * 10_000, "\x1b" * 10_000, "x" * (REASON_CHARACTERS + 1)])
def test_what_is_too_long_is_cut(text: str) -> None:
    shown = one_line(text)
    assert len(shown) == REASON_CHARACTERS
    assert shown.endswith("…")


def test_a_reason_is_made_fit_however_it_is_made() -> None:
    assert Reason(code="x", text="a\x1bb").text == r"a\x1bb"
    assert decode_json(b'{"code": "x", "text": "a\\u001bb"}', Reason).text == r"a\x1bb"
