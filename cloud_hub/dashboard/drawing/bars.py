"""One signal: how the rows spread over the bins when the model was made, and how they do now.

Then is an outline in front, now is filled bars behind it: both are seen at once, and told apart without colours.
"""

import itertools
from collections.abc import Iterator, Sequence

from markupsafe import Markup
from msgspec import Struct

from agent.protocol.drift import SignalCounts, SignalReference
from cloud_hub.dashboard.drawing.elements import element, group, picture, text

WIDTH, HEIGHT, AXIS, TOP = 340.0, 96.0, 18.0, 6.0
SECOND_LINE = 12.0
"""For the names of what lies outside the bins: beside the ends of the axis there is no room."""
GAP = 9.0
"""Between the bins and what lies outside them."""
MANY = 12
"""From this many categories on not each is labelled."""


class Column(Struct, frozen=True, kw_only=True):
    """One bin, or what lies outside all bins."""

    name: str
    """Below it; "" shows nothing."""
    then: float
    """Share of the rows, 0-1."""
    now: float
    apart: bool = False
    """Not a bin: under, over, missing, not a number."""


def columns(reference: SignalReference, counts: SignalCounts, rows_then: int) -> tuple[Column, ...]:
    """Shares of all rows. Columns outside the bins stand only where there is, or was, something in them."""
    now_rows = sum(counts.counts) + counts.missing + counts.not_finite
    then = [share(count, rows_then) for count in reference.counts]
    now = [share(count, now_rows) for count in counts.counts]
    names = _names(reference)
    inner = [
        Column(name=name, then=before, now=after)
        for name, before, after in zip(names, then[1:-1], now[1:-1], strict=True)
    ]
    over = "over" if reference.categories is None else "other"
    missing, not_finite = share(counts.missing, now_rows), share(counts.not_finite, now_rows)
    outer = (
        Column(name="under", then=then[0], now=now[0], apart=True),
        Column(name=over, then=then[-1], now=now[-1], apart=True),
        Column(name="missing", then=share(reference.missing, rows_then), now=missing, apart=True),
        Column(name="NaN", then=share(reference.not_finite, rows_then), now=not_finite, apart=True),
    )
    first, *rest = (each if each.then or each.now else None for each in outer)
    return tuple(each for each in (first, *inner, *rest) if each is not None)


def share(count: int, rows: int) -> float:
    """0 of nothing."""
    return count / rows if rows else 0.0


def comparison(reference: SignalReference, shown: Sequence[Column], label: str) -> Markup:
    """The picture; scaled to the tallest column."""
    top = max((max(each.then, each.now) for each in shown), default=0.0) or 1.0
    gaps = sum(a.apart or b.apart for a, b in itertools.pairwise(shown))
    step = (WIDTH - gaps * GAP) / max(1, len(shown))
    places: list[float] = []
    x = 0.0
    for number, each in enumerate(shown):
        if number and (each.apart or shown[number - 1].apart):
            x += GAP
        places.append(x)
        x += step
    bars = [_now(each, place, step, top) for each, place in zip(shown, places, strict=True)]
    outlines = list(_outlines(shown, places, step, top))
    ground = element("line", class_="ground", x1=0, x2=WIDTH, y1=HEIGHT, y2=HEIGHT)
    labels = list(_labels(reference, shown, places, step))
    peak = text(f"{top:.0%}", *_corner(shown), "axis peak")
    body = group([*bars, ground, *outlines, *labels, peak])
    below = AXIS + (SECOND_LINE if any(each.apart for each in shown) else 0.0)
    return picture(label, body, width=WIDTH, height=HEIGHT + below, class_="bars")


def _corner(shown: Sequence[Column]) -> tuple[float, float, str]:
    """Where the height of the tallest column is written: at the side with less in its way."""
    tall = [max(each.then, each.now) for each in shown]
    third = max(1, len(tall) // 3)
    right = max(tall[-third:], default=0.0) <= max(tall[:third], default=0.0)
    return (WIDTH, TOP + 4, "end") if right else (0.0, TOP + 4, "start")


def _tall(value: float, top: float) -> float:
    return max(value / top * (HEIGHT - TOP), 1.0 if value else 0.0)


def _now(column: Column, x: float, step: float, top: float) -> Markup:
    tall = _tall(column.now, top)
    inset = min(2.0, step / 8)
    kind = "now apart" if column.apart else "now"
    return element("rect", class_=kind, x=x + inset, y=HEIGHT - tall, width=step - 2 * inset, height=tall)


def _outlines(shown: Sequence[Column], places: Sequence[float], step: float, top: float) -> Iterator[Markup]:
    """One outline over the bins, one over each column apart."""
    path: list[str] = []
    for column, x in zip(shown, places, strict=True):
        y = HEIGHT - _tall(column.then, top)
        if column.apart:
            if path:
                yield _closed(path)
                path = []
            yield _closed([f"M{x:.1f} {HEIGHT:g}", f"V{y:.1f}", f"H{x + step:.1f}"])
        else:
            path += [f"V{y:.1f}" if path else f"M{x:.1f} {HEIGHT:g}V{y:.1f}", f"H{x + step:.1f}"]
    if path:
        yield _closed(path)


def _closed(path: Sequence[str]) -> Markup:
    return element("path", class_="then", d=f"{''.join(path)}V{HEIGHT:g}")


def _labels(
    reference: SignalReference, shown: Sequence[Column], places: Sequence[float], step: float
) -> Iterator[Markup]:
    y = HEIGHT + AXIS - 4
    inner = [(column, x) for column, x in zip(shown, places, strict=True) if not column.apart]
    if any(column.name for column, _ in inner):
        each = 1 if len(inner) <= MANY else -(-len(inner) // MANY)
        for column, x in inner[::each]:
            yield text(column.name, x + step / 2, y, "middle")
    elif inner:
        yield text(number(reference.edges[0]), inner[0][1], y)
        yield text(number(reference.edges[-1]), inner[-1][1] + step, y, "end")
    for column, x in zip(shown, places, strict=True):
        if column.apart:
            middle = x + step / 2
            anchor = "start" if x == 0 else "end" if x + step > WIDTH - 1 else "middle"
            at = {"start": 0.0, "middle": middle, "end": WIDTH}[anchor]
            yield text(column.name, at, y + SECOND_LINE, anchor, "axis apart")


def _names(reference: SignalReference) -> list[str]:
    bins = len(reference.counts) - 2
    if reference.categories is not None and len(reference.categories) == bins:
        return [str(each) for each in reference.categories]
    if reference.summary == "argmax":
        return [str(each) for each in range(bins)]
    return [""] * bins


def number(value: float) -> str:
    """A value on an axis, short."""
    return f"{value:.3g}"
