"""SVG elements. Every attribute and text is escaped here, so that no picture has to think of it."""

from collections.abc import Iterable

from markupsafe import Markup, escape

Attribute = str | float


def element(name: str, content: Markup | str = "", /, **attributes: Attribute) -> Markup:
    """One element. In attribute names ``_`` stands for ``-``; a trailing one is dropped (``class_``)."""
    head = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_shown(value))}"' for key, value in attributes.items()
    )
    body = escape(content)
    return Markup(f"<{name}{head}/>" if not body else f"<{name}{head}>{body}</{name}>")  # noqa: S704 - escaped


def group(parts: Iterable[Markup]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def text(content: str, x: float, y: float, anchor: str = "start", class_: str = "axis") -> Markup:
    """A label at ``(x, y)``; ``anchor`` is ``start``, ``middle`` or ``end``."""
    return element("text", content, class_=class_, x=x, y=y, text_anchor=anchor)


def picture(label: str, body: Markup, *, width: float, height: float, class_: str) -> Markup:
    """An image that scales with its page; ``label`` says what it shows to those who can't see it."""
    return element(
        "svg", body, class_=class_, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label
    )


def stretched(label: str, body: Markup, *, width: float, height: float, class_: str) -> Markup:
    """As :func:`picture`, but of a height that the page fixes: it is stretched to the width there is."""
    return element(
        "svg",
        body,
        class_=class_,
        viewBox=f"0 0 {width:g} {height:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )


def _shown(value: Attribute) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
