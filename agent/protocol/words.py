"""What somebody else wrote, made fit to be shown and sent on: a hub's words end on a technician's terminal."""

REASON_CHARACTERS = 1_000
"""Of a reason's text. 32 deployments with several reasons each fit a reported state."""


def one_line(text: str, limit: int = REASON_CHARACTERS) -> str:
    """``text``, at most ``limit`` characters of it, with everything that moves a cursor or can't be printed escaped."""
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
