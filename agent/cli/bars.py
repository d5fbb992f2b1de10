"""Pictures of a terminal, as lines of text: data in, text out. In blocks where it has them, else in ASCII."""

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from msgspec import Struct

from agent.protocol.control import DriftMark
from agent.protocol.drift import VerdictLevel

_NO_BLOCKS = frozenset({"dumb", "linux", "vt100", "vt102", "vt220", "ansi"})
"""Terminals whose fonts lack eighths of a block; ``linux`` is the console without a window system."""
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_WIDEST_BIN = 5
_GAP_FROM = 3
"""Characters a bin from which its column leaves one free, so that neighbours are told apart."""


class Style(Struct, frozen=True, kw_only=True):
    """What the pictures are made of."""

    blocks: bool
    marks: dict[VerdictLevel, str]
    """The worse, the taller."""
    cut: str
    """Beside a timeline: below a window that was cut off."""
    bar: str
    tick: str
    arrow: str
    least: str
    """Of a histogram: more than nothing."""
    rows: int
    """Lines of a histogram."""


BLOCKS = Style(
    blocks=True,
    marks={"ok": "▂", "warning": "▅", "drift": "█", "insufficient data": "·"},
    cut="˅",
    bar="█",
    tick="│",
    arrow="→",
    least="▁",
    rows=2,
)
ASCII = Style(
    blocks=False,
    marks={"ok": "_", "warning": "o", "drift": "#", "insufficient data": "."},
    cut="^",
    bar="#",
    tick="|",
    arrow="->",
    least="_",
    rows=3,
)


def style_of(stream: TextIO = sys.stdout, *, ascii_only: bool = False) -> Style:
    """What ``stream`` can show: blocks need an encoding, and a terminal, that has them."""
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    poor = stream.isatty() and os.environ.get("TERM", "dumb") in _NO_BLOCKS
    return BLOCKS if encoding.startswith("utf") and not poor and not ascii_only else ASCII


_WORST_FIRST: tuple[VerdictLevel, ...] = ("drift", "warning", "ok", "insufficient data")


class Line(Struct, frozen=True, kw_only=True):
    """A timeline of so many characters."""

    marks: tuple[VerdictLevel, ...]
    """The worst of the windows behind each character."""
    cut: tuple[bool, ...]
    windows: int
    """Behind one character, at most."""


def timeline(history: Sequence[DriftMark], width: int) -> Line:
    """``history``, oldest first, in at most ``width`` characters: where there are more windows, several share one."""
    size = max(1, -(-len(history) // max(1, width)))
    first = len(history) % size
    starts = [*([0] if first else []), *range(first, len(history), size)]
    spans = [history[start : start + (first if start == 0 and first else size)] for start in starts]
    return Line(
        marks=tuple(
            next(level for level in _WORST_FIRST if any(m.level == level for m in span)) for span in spans
        ),
        cut=tuple(any(mark.incomplete for mark in span) for span in spans),
        windows=size,
    )


def histogram(shares: Sequence[float], top: float, width: int, style: Style) -> list[str]:
    """Columns that stand on the last line, ``width`` characters each; ``top`` is full height."""
    rows = style.rows
    steps = len(_EIGHTHS) - 1 if style.blocks else 1
    bar = width if width < _GAP_FROM else width - 1
    lines = []
    for row in reversed(range(rows)):
        cells = []
        for share in shares:
            height = share / top * rows * steps if top else 0.0
            left = min(max(round(height - row * steps), 0), steps)
            cell = _cell(left, style)
            if row == 0 and share > 0 and not left:
                cell = style.least  # what is there is never drawn as nothing
            cells.append(cell * bar + " " * (width - bar))
        lines.append("".join(cells).rstrip())
    return lines


def _cell(eighths: int, style: Style) -> str:
    if style.blocks:
        return _EIGHTHS[eighths]
    return style.bar if eighths else " "


def bin_width(bins: int, width: int) -> int:
    """Characters a bin, so that all of them fit into ``width``."""
    return max(1, min(_WIDEST_BIN, width // max(1, bins)))


def bullet(now: float, then: float, top: float, width: int, style: Style) -> str:
    """A bar of now with a tick where then was."""
    full = round(now / top * width) if top else 0
    full = max(full, 1) if now > 0 else 0
    at = min(width - 1, round(then / top * width)) if top else 0
    cells = [style.bar if place < full else " " for place in range(width)]
    if then > 0:
        cells[at] = style.tick if at >= full else ("┃" if style.blocks else style.tick)
    return "".join(cells).rstrip()
