import re

import pytest
from msgspec.structs import replace

from agent.protocol.drift import SignalCounts, SignalReference, VerdictLevel
from cloud_hub.dashboard.drawing import bars, interval, lines, shares, strip
from cloud_hub.dashboard.drawing.elements import element
from cloud_hub.dashboard.drawing.interval import Known
from cloud_hub.dashboard.drawing.lines import Point, Span
from cloud_hub.dashboard.drawing.strip import Cell, Judged

REFERENCE = SignalReference(
    name="brightness",
    source="input",
    tensor="image",
    summary="brightness",
    edges=(0.0, 0.5, 1.0),
    counts=(0, 60, 40, 0),
    missing=0,
)
HOSTILE = '"><script>alert(1)</script>'


def numbers(svg: str, attribute: str) -> list[float]:
    return [float(each) for each in re.findall(rf'\b{attribute}="([-\d.]+)"', svg)]


def test_no_attribute_and_no_text_becomes_markup() -> None:
    drawn = element("text", HOSTILE, title=HOSTILE)
    assert "<script" not in drawn
    assert drawn.count("<") == 2
    for picture in (
        strip.skyline([Cell(level="ok")], HOSTILE),
        bars.comparison(REFERENCE, [bars.Column(name=HOSTILE, then=0.1, now=0.2)], HOSTILE),
        interval.accuracy(None, None, 0.9, HOSTILE),
        lines.line([Point(0.0, 1.0)], 0.0, 1.0, HOSTILE, spans=[Span(since=0, until=1, kind=HOSTILE)]),
        shares.columns([{"ok": 1}], 1, HOSTILE),
    ):
        assert "<script" not in picture
        assert 'role="img"' in picture


def test_what_lies_outside_the_bins_is_drawn_only_where_there_is_something() -> None:
    inside = bars.columns(REFERENCE, SignalCounts(counts=(0, 10, 10, 0)), 100)
    assert [each.apart for each in inside] == [False, False]
    around = bars.columns(REFERENCE, SignalCounts(counts=(1, 3, 2, 1), missing=2, not_finite=1), 100)
    assert [each.name for each in around if each.apart] == ["under", "over", "missing", "NaN"]
    assert sum(each.now for each in around) == pytest.approx(1.0)
    gone = bars.columns(replace(REFERENCE, missing=5), SignalCounts(counts=(0, 10, 10, 0)), 105)
    assert [each.name for each in gone if each.apart] == ["missing"], "it was there when the model was made"


def test_categories_carry_their_codes_and_the_unknown_ones_are_others() -> None:
    kinds = replace(REFERENCE, summary="category", index=0, categories=(2, 7), edges=(-0.5, 0.5, 1.5))
    shown = bars.columns(kinds, SignalCounts(counts=(0, 10, 10, 5)), 100)
    assert [each.name for each in shown] == ["2", "7", "other"]


def test_bars_stay_inside_their_picture() -> None:
    shown = bars.columns(REFERENCE, SignalCounts(counts=(9, 1, 1, 9), missing=4, not_finite=9), 100)
    drawn = bars.comparison(REFERENCE, shown, "x")
    rects = re.findall(r'<rect class="now[^>]*>', drawn)
    for rect in rects:
        (x,), (width,), (y,), (height,) = (numbers(rect, name) for name in ("x", "width", "y", "height"))
        assert 0 <= x <= x + width <= bars.WIDTH + 0.1
        assert y >= 0
        assert y + height == pytest.approx(bars.HEIGHT, abs=0.1)
    assert bars.comparison(REFERENCE, (), "nothing").count("<rect") == 0


def test_a_span_shows_the_worst_window_that_closed_in_it() -> None:
    windows = [
        Judged(closed=0.0, level="ok"),
        Judged(closed=1.0, level="drift"),
        Judged(closed=9.9, level="insufficient data", incomplete=True),
        Judged(closed=10.0, level="warning"),
        Judged(closed=-1.0, level="drift"),
        Judged(closed=11.0, level="drift"),
    ]
    spans = strip.cells(windows, 0.0, 10.0, 5)
    assert [cell.level for cell in spans] == ["drift", None, None, None, "warning"]
    assert spans[-1].incomplete
    assert strip.told(spans, "2 s") == (
        "drift in 1, warning in 1, no window in 3 of 5 spans of 2 s; the newest verdict: warning; "
        "1 with a window that was cut off"
    )


def test_the_worse_the_taller_and_equal_neighbours_are_one_bar() -> None:
    levels: tuple[VerdictLevel, ...] = ("insufficient data", "ok", "warning", "drift")
    heights = [
        max(
            numbers(
                re.sub(r'<rect class="ground".*?/>', "", strip.skyline([Cell(level=level)], "x")), "height"
            )
        )
        for level in levels
    ]
    assert heights == sorted(set(heights))
    many = strip.skyline([Cell(level="ok")] * 500 + [Cell(level="ok", incomplete=True)], "x")
    assert many.count("<rect") == 3, "the ground, a run, and the one that was cut off"
    assert "cut" in many


def test_a_gap_in_what_was_measured_is_a_gap_in_the_line() -> None:
    points = [Point(float(at), 1.0) for at in (0, 1, 2, 3, 20, 21, 22, 40)]
    drawn = lines.line(points, 0.0, 41.0, "x")
    assert drawn.count("<polyline") == 3, "two runs, and one point alone"
    assert lines.line([], 0.0, 1.0, "x").count("<polyline") == 0


def test_thinning_loses_no_extreme() -> None:
    points = [Point(float(at), 0.0) for at in range(5_000)]
    points[1_234] = Point(1_234.0, 90.0)
    points[4_321] = Point(4_321.0, -5.0)
    kept = lines.thinned(points)
    assert len(kept) <= lines.POINTS
    assert {points[1_234], points[4_321]} <= set(kept)
    assert [each.time for each in kept] == sorted(each.time for each in kept)


@pytest.mark.parametrize(
    ("estimate", "real", "promised"),
    [
        (Known(value=0.9, low=0.88, high=0.92), Known(value=0.7, low=0.6, high=0.8), 0.95),
        (None, Known(value=1.0, low=0.2, high=1.0), None),
        (Known(value=0.0, low=0.0, high=0.0), None, 0.0),
        (None, None, None),
    ],
)
def test_every_accuracy_fits_its_axis(
    estimate: Known | None, real: Known | None, promised: float | None
) -> None:
    drawn = interval.accuracy(estimate, real, promised, "x")
    for name in ("x1", "x2", "cx", "x"):
        assert all(0 <= at <= interval.WIDTH for at in numbers(drawn, name))
    assert ("<polygon" in drawn, "<circle" in drawn) == (real is not None, estimate is not None)


def test_one_sick_device_of_a_thousand_is_seen() -> None:
    drawn = shares.columns([{"ok": 999, "drift": 1}], 1_000, "x")
    (sick,) = re.findall(r'<rect class="drift"[^>]*>', drawn)
    assert numbers(sick, "height")[0] >= 1.0
