"""Small inline SVG bar charts: shares of the reference beside shares of now."""

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT, GAP = 220.0, 56.0, 1.5
_BAR = '<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="1"/>'


def shares(counts: Sequence[int]) -> list[float]:
    """Counts as shares of their sum, zeros where there is nothing."""
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def comparison(reference: Sequence[int], current: Sequence[int], label: str) -> Markup:
    """Two bars a bin, the reference's behind; both are scaled to the larger one's highest share.

    The first and last bin are what lies under and over the reference's range.
    """
    pairs = list(zip(shares(reference), shares(current), strict=True))
    top = max((max(pair) for pair in pairs), default=0.0) or 1.0
    step = WIDTH / max(len(pairs), 1)
    bars: list[str] = []
    for i, (before, now) in enumerate(pairs):
        for kind, share, shift in (("then", before, 0.0), ("now", now, (step - GAP) / 2)):
            height = max(share / top * HEIGHT, 0.8 if share else 0.0)
            bars.append(
                _BAR.format(
                    kind=kind, x=i * step + shift, y=HEIGHT - height, width=(step - GAP) / 2, height=height
                )
            )
    body = Markup("".join(bars))  # noqa: S704 - made of numbers alone
    return Markup('<svg class="bars" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        f"{WIDTH:g}", f"{HEIGHT:g}", label, body
    )
