"""Accuracy on one axis: an estimate as a bar with ends, a real figure as a diamond, what was evaluated as a line."""

from collections.abc import Iterable

from markupsafe import Markup
from msgspec import Struct

from cloud_hub.dashboard.drawing.elements import element, group, picture, text

WIDTH, HEIGHT, MIDDLE, EDGE = 340.0, 62.0, 22.0, 14.0
WHISKER, HALF = 6.0, 6.5
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
TICKS = 6


class Known(Struct, frozen=True, kw_only=True):
    """An accuracy with its interval, 0-1."""

    value: float
    low: float
    high: float


def accuracy(estimate: Known | None, real: Known | None, promised: float | None, label: str) -> Markup:
    """One axis with all three; those that are None are not drawn."""
    given = [each for each in (estimate, real) if each is not None]
    values = [edge for each in given for edge in (each.low, each.high)]
    values += [] if promised is None else [promised]
    low, high, step = _range(values)

    def x(value: float) -> float:
        return EDGE + (value - low) / (high - low) * (WIDTH - 2 * EDGE)

    parts = list(_axis(low, high, step, x(low), x(high)))
    if promised is not None:
        at = x(promised)
        parts.append(element("line", class_="promised", x1=at, x2=at, y1=4, y2=MIDDLE + 18))
    if estimate is not None:
        parts += _bar(x(estimate.low), x(estimate.value), x(estimate.high), MIDDLE - 6)
    if real is not None:
        parts += _diamond(x(real.low), x(real.value), x(real.high), MIDDLE + 10)
    return picture(label, group(parts), width=WIDTH, height=HEIGHT, class_="interval")


def _range(values: Iterable[float]) -> tuple[float, float, float]:
    """The axis' ends and the distance of its ticks."""
    known = list(values)
    span = (max(known) - min(known)) if known else 1.0
    step = next((each for each in STEPS if span / each <= TICKS - 2), STEPS[-1])
    low = max(0.0, int((min(known, default=0.0) - step / 2) / step) * step)
    high = min(1.0, (int((max(known, default=1.0) + step / 2) / step) + 1) * step)
    return low, max(high, low + step), step


def _axis(low: float, high: float, step: float, left: float, right: float) -> Iterable[Markup]:
    y = MIDDLE + 20
    yield element("line", class_="ground", x1=left, x2=right, y1=y, y2=y)
    count = round((high - low) / step)
    for number in range(count + 1):
        at = left + (right - left) * number / max(1, count)
        yield element("line", class_="ground", x1=at, x2=at, y1=y, y2=y + 4)
        yield text(f"{low + number * step:.0%}", at, y + 16, "middle")


def _bar(low: float, value: float, high: float, y: float) -> list[Markup]:
    ends = [
        element("line", class_="estimate", x1=at, x2=at, y1=y - WHISKER, y2=y + WHISKER) for at in (low, high)
    ]
    body = element("line", class_="estimate", x1=low, x2=high, y1=y, y2=y)
    return [body, *ends, element("circle", class_="estimate", cx=value, cy=y, r=3.5)]


def _diamond(low: float, value: float, high: float, y: float) -> list[Markup]:
    body = element("line", class_="real", x1=low, x2=high, y1=y, y2=y)
    corners = f"{value:.1f},{y - HALF} {value + HALF:.1f},{y} {value:.1f},{y + HALF} {value - HALF:.1f},{y}"
    return [body, element("polygon", class_="real", points=corners)]
