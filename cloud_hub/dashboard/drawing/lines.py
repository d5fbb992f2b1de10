"""One measured value over time. Where nothing was measured the line has a gap: nothing is drawn that was not seen."""

import itertools
from collections.abc import Iterator, Sequence
from statistics import median

from markupsafe import Markup
from msgspec import Struct

from cloud_hub.dashboard.drawing.elements import element, group, stretched

WIDTH, HEIGHT, MARGIN = 400.0, 64.0, 4.0
GAP_FACTOR = 3.5
"""A pause this many times the usual one is a gap."""
POINTS = 400
"""At most: of more, every span's lowest and highest are kept."""


class Point(Struct, frozen=True):
    time: float
    value: float


class Span(Struct, frozen=True, kw_only=True):
    """A stretch of time in which something held."""

    since: float
    until: float
    kind: str


def line(
    points: Sequence[Point],
    since: float,
    until: float,
    label: str,
    *,
    bottom: float | None = None,
    spans: Sequence[Span] = (),
) -> Markup:
    """``points`` in the order of their times; ``bottom`` is the least value the axis reaches down to."""
    shown = thinned(points)
    low = min((each.value for each in shown), default=0.0)
    low = low if bottom is None else min(low, bottom)
    high = max((each.value for each in shown), default=1.0)
    height = (high - low) or 1.0

    def x(time: float) -> float:
        return (time - since) / ((until - since) or 1.0) * WIDTH

    def y(value: float) -> float:
        return HEIGHT - MARGIN - (value - low) / height * (HEIGHT - 2 * MARGIN)

    shades = [
        element(
            "rect",
            class_=f"span {each.kind}",
            x=x(each.since),
            y=0,
            width=max(1.5, x(each.until) - x(each.since)),
            height=HEIGHT,
        )
        for each in spans
    ]
    runs = [
        element(
            "polyline",
            class_="line",
            points=" ".join(f"{x(each.time):.1f},{y(each.value):.1f}" for each in run),
        )
        for run in _runs(shown)
    ]
    ground = element("rect", class_="ground", x=0, y=HEIGHT - 0.7, width=WIDTH, height=0.7)
    return stretched(label, group([*shades, ground, *runs]), width=WIDTH, height=HEIGHT, class_="lines")


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most :data:`POINTS`, none of the extremes lost."""
    if len(points) <= POINTS:
        return list(points)
    size = -(-len(points) // (POINTS // 2))
    kept: list[Point] = []
    for start in range(0, len(points), size):
        span = points[start : start + size]
        ends = {min(span, key=lambda each: each.value), max(span, key=lambda each: each.value)}
        kept += sorted(ends, key=lambda each: each.time)
    return kept


def _runs(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Points without a gap between them; a lone one is drawn as a short dash."""
    pauses = [after.time - before.time for before, after in itertools.pairwise(points)]
    usual = median(pauses) if pauses else 0.0
    run: list[Point] = []
    for point in points:
        if run and point.time - run[-1].time > GAP_FACTOR * usual:
            yield _visible(run, usual)
            run = []
        run.append(point)
    if run:
        yield _visible(run, usual)


def _visible(run: list[Point], usual: float) -> list[Point]:
    return run if len(run) > 1 else [run[0], Point(run[0].time + max(usual / 2, 1.0), run[0].value)]
