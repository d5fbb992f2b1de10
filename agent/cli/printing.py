"""How answers are printed: as plain text, whoever wrote parts of it, and in columns."""

import io
import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.protocol.state import Reason

PLAIN_WIDTH = 120
"""Columns where the output is not a terminal."""

STYLES = {
    "problem": "bold red",
    "error": "red",
    "drift": "red",
    "broken": "red",
    "notice": "yellow",
    "warning": "yellow",
    "ok": "green",
}


def output() -> Console:
    """Standard output; without colours where it is no terminal, or ``NO_COLOR`` is set.

    A character that its encoding lacks is replaced: nobody is left without an answer for an arrow.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def plain(value: object, style: str = "") -> Text:
    """``value`` as text without control characters (a release's words must not steer a terminal)."""
    if value is None:
        return Text("-")
    shown = "".join(letter if letter.isprintable() else "�" for letter in str(value))
    return Text(shown, style=style)


def table(*columns: str) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def time_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def why(reason: Reason) -> str:
    return f"{reason.text} ({reason.code})"
