"""Templates to HTML, and what every page has: its frame and the headers that let nothing else in."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from msgspec import Struct

from agent.protocol.drift_words import percent
from cloud_hub.dashboard import words

_FOLDER = Path(__file__).parent / "templates"
_CSS = (_FOLDER / "page.css").read_text()
_CSS_HASH = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()

HEADERS = {
    # The page's own style by its hash: a style that somebody smuggled in does not count, a script never does.
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_CSS_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # a token may stand in the address
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


class Frame(Struct, frozen=True, kw_only=True):
    """What is around a page."""

    title: str
    time: str
    here: str
    """Address of the link that stands for this page."""
    links: tuple[tuple[str, str, int], ...] = ()
    """Address, name, how many things are open there."""
    refresh_seconds: int = 0
    """0: the page stays as it is."""
    css: Markup = Markup(_CSS)  # noqa: S704 - our own file; escaping it would change its hash and its meaning


_environment = Environment(
    loader=FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "tone": lambda level: words.TONES.get(level or "", "quiet"),
    "kind": lambda level: words.KINDS.get(level or "", "none"),
    "short": lambda level: words.SHORT.get(level or "", level),
    "whole": words.whole,
    "many": words.many,
    "percent": percent,
    "minute": words.minute,
}


def render(template: str, frame: Frame, page: Any) -> str:
    """A whole page; whatever stands in ``page`` is shown as text, but for pictures that we drew."""
    return _environment.get_template(template).render(frame=frame, page=page)
