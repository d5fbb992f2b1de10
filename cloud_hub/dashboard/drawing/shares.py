"""How a whole fleet stands, over time: one column a span of time, the worst on top."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from agent.protocol.drift import VerdictLevel
from cloud_hub.dashboard.drawing.elements import element, group, stretched

STEP, HEIGHT = 10.0, 60.0
_FROM_BELOW: tuple[tuple[VerdictLevel, str], ...] = (
    ("ok", "ok"),
    ("insufficient data", "insufficient"),
    ("warning", "warning"),
    ("drift", "drift"),
)


def columns(spans: Sequence[Mapping[VerdictLevel, int]], whole: int, label: str) -> Markup:
    """Devices by verdict in each span, the oldest left; ``whole`` devices are the full height.

    One sick device among a thousand is still drawn: nothing that is there is thinner than a line.
    """
    parts = [element("rect", class_="ground", x=0, y=HEIGHT - 0.7, width=len(spans) * STEP, height=0.7)]
    for number, span in enumerate(spans):
        bottom = HEIGHT
        for level, kind in _FROM_BELOW:
            count = span.get(level, 0)
            if not count:
                continue
            tall = max(count / max(1, whole) * HEIGHT, 2.0)
            bottom = max(bottom - tall, 0.0)
            parts.append(
                element("rect", class_=kind, x=number * STEP + 0.5, y=bottom, width=STEP - 1, height=tall)
            )
    return stretched(label, group(parts), width=max(1, len(spans)) * STEP, height=HEIGHT, class_="shares")
