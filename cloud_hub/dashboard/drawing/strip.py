"""A verdict timeline as a skyline: the worse, the taller; so it is read without colours too."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from markupsafe import Markup
from msgspec import Struct

from agent.protocol.drift import VerdictLevel
from cloud_hub.dashboard.drawing.elements import element, group, stretched

STEP, HEIGHT = 10, 20
_TALL: dict[VerdictLevel, int] = {"insufficient data": 2, "ok": 6, "warning": 12, "drift": 20}
_CLASS: dict[VerdictLevel, str] = {
    "insufficient data": "insufficient",
    "ok": "ok",
    "warning": "warning",
    "drift": "drift",
}
_WORST_FIRST: tuple[VerdictLevel, ...] = ("drift", "warning", "ok", "insufficient data")


class Cell(Struct, frozen=True, kw_only=True):
    """One span of time."""

    level: VerdictLevel | None = None
    """None: no window closed in it."""
    incomplete: bool = False
    """A window in it was cut off; drawn hollow."""


class Judged(Struct, frozen=True, kw_only=True):
    """A window as far as a timeline shows it."""

    closed: float
    level: VerdictLevel
    incomplete: bool = False


def cells(windows: Iterable[Judged], since: float, until: float, count: int) -> tuple[Cell, ...]:
    """``count`` spans from ``since`` to ``until``, each with the worst of the windows that closed in it."""
    found: list[list[Judged]] = [[] for _ in range(count)]
    for window in windows:
        place = int((window.closed - since) / (until - since) * count)
        if window.closed == until:
            place = count - 1
        if 0 <= place < count:
            found[place].append(window)
    return tuple(
        Cell(level=worst(each.level for each in span), incomplete=any(each.incomplete for each in span))
        for span in found
    )


def worst(levels: Iterable[VerdictLevel]) -> VerdictLevel | None:
    """The worst of these verdicts; None of none."""
    seen = set(levels)
    return next((level for level in _WORST_FIRST if level in seen), None)


def skyline(spans: Sequence[Cell], label: str) -> Markup:
    """The timeline, the oldest left. Equal neighbours are one bar."""
    ground = element("rect", class_="ground", x=0, y=HEIGHT - 0.6, width=len(spans) * STEP, height=0.6)
    body = group([ground, *_bars(spans)])
    return stretched(label, body, width=max(1, len(spans)) * STEP, height=HEIGHT, class_="skyline")


def _bars(spans: Sequence[Cell]) -> Iterator[Markup]:
    start = 0
    for cell, same in groupby(spans):
        length = len(list(same))
        if cell.level is not None:
            tall = _TALL[cell.level]
            kind = f"{_CLASS[cell.level]} cut" if cell.incomplete else _CLASS[cell.level]
            yield element(
                "rect",
                class_=kind,
                x=start * STEP + 0.5,
                y=HEIGHT - tall,
                width=length * STEP - 1,
                height=tall,
            )
        start += length


def told(spans: Sequence[Cell], span: str) -> str:
    """A timeline in words: ``drift in 6 of 48 spans of 1 h, the newest; ok in 40; nothing in 2``."""
    counted = {level: sum(cell.level == level for cell in spans) for level in (*_WORST_FIRST, None)}
    parts = [
        f"{'no window' if level is None else level} in {many}" for level, many in counted.items() if many
    ]
    newest = next((cell.level for cell in reversed(spans) if cell.level is not None), None)
    cut = sum(cell.incomplete for cell in spans)
    words = f"{', '.join(parts)} of {len(spans)} spans of {span}"
    words += f"; the newest verdict: {newest}" if newest else ""
    return words + (f"; {cut} with a window that was cut off" if cut else "")
