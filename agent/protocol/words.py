"""What somebody else wrote, made fit to be shown and sent on: a hub's words end on a technician's terminal."""

from collections.abc import Iterable

REASON_CHARACTERS = 1_000
"""Of a reason's text. 32 deployments with several reasons each fit a reported state."""
LONGEST_ESCAPE = len(ascii("\U000e0001")) - 2
"""What one character becomes at most."""


def one_line(text: str, limit: int = REASON_CHARACTERS) -> str:
    """``text``, at most ``limit`` characters of it, with everything that moves a cursor or can't be printed escaped."""
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def as_lines(lines: Iterable[str]) -> str:
    """Text of exactly these lines, whoever wrote parts of them. Nothing is cut: somebody decides by it."""
    return "\n".join(
        line if line.isprintable() else one_line(line, len(line) * LONGEST_ESCAPE) for line in lines
    )
