"""Logs: JSON lines for a service manager, text for a person, and nothing below the level."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from agent.config import LogConfig
from agent.log import configure


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def logged(config: LogConfig, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    configure(config)
    logging.getLogger("agent.service").info("a detail")
    logging.getLogger("agent.service").warning("swapped", extra={"release": 2})
    return stream.getvalue()


def test_json_has_one_object_a_line_with_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = logged(LogConfig(format="json"), Terminal(), monkeypatch).splitlines()
    line = json.loads(lines[1])
    assert (line["level"], line["name"], line["message"]) == ("WARNING", "agent.service", "swapped")
    assert line["release"] == 2
    assert "asctime" in line


def test_auto_is_text_on_a_terminal_and_json_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "WARNING agent.service: swapped" in logged(LogConfig(), Terminal(), monkeypatch)
    assert logged(LogConfig(), io.StringIO(), monkeypatch).startswith("{")


def test_what_is_less_important_than_the_level_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    text = logged(LogConfig(level="warning", format="text"), io.StringIO(), monkeypatch)
    assert "swapped" in text
    assert "a detail" not in text


def test_configuring_again_does_not_write_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(LogConfig(format="text"))
    text = logged(LogConfig(format="text"), io.StringIO(), monkeypatch)
    assert text.count("swapped") == 1
