"""What a page is to somebody who does not see it: its language, headings, images, tables, links; by the standard's own parser."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta", "link", "input", "br", "img", "hr", "use", "rect", "line", "circle"})


@dataclass
class Outline:
    language: str | None = None
    title: str = ""
    headings: list[tuple[int, str]] = field(default_factory=list)
    images: list[str | None] = field(default_factory=list)
    """Name of each picture; None where one has no name and is not hidden either."""
    unscoped_headers: int = 0
    """Table headers that do not say what they head."""
    links: list[str] = field(default_factory=list)
    unlabelled_fields: int = 0
    scripts: int = 0
    inline_styles: int = 0
    """The page's own policy would not let them count."""
    texts: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outline = Outline()
        self._open: list[str] = []
        self._labelled: set[str] = set()
        self._fields: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "html":
            self.outline.language = found.get("lang")
        elif tag in {"h1", "h2", "h3", "h4", "h5", "h6"}:
            self.outline.headings.append((int(tag[1]), ""))
        elif tag == "svg":
            hidden = found.get("aria-hidden") == "true"
            if not hidden:
                named = found.get("role") == "img" and found.get("aria-label")
                self.outline.images.append(found["aria-label"] if named else None)
        elif tag == "th":
            self.outline.unscoped_headers += "scope" not in found
        elif tag == "a":
            self.outline.links.append(found.get("href") or "")
        elif tag == "label":
            self._labelled.add(found.get("for") or "")
        elif tag == "input":
            self._fields.append(found.get("id"))
        self.outline.scripts += tag == "script" or any(name.startswith("on") for name in found)
        self.outline.inline_styles += "style" in found
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "style":
            return
        if inside == "title":
            self.outline.title += data
        heading = next((tag for tag in reversed(self._open) if tag in {"h1", "h2", "h3", "h4"}), None)
        if heading is not None and self.outline.headings:
            level, text = self.outline.headings[-1]
            self.outline.headings[-1] = (level, f"{text}{data}")
        if data.strip():
            self.outline.texts.append(" ".join(data.split()))

    def close(self) -> None:
        super().close()
        self.outline.unlabelled_fields = sum(name not in self._labelled for name in self._fields)


def outline(html: str) -> Outline:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.outline


def problems(html: str) -> list[str]:
    """What would be in the way of somebody who can't see the page, or can't use a mouse; nothing of a good page."""
    found = outline(html)
    said = []
    if found.language != "en":
        said.append("it does not say its language")
    if not found.title.strip():
        said.append("it has no title")
    levels = [level for level, _ in found.headings]
    if levels.count(1) != 1 or levels[0] != 1:
        said.append(f"its first heading, and no other, is to be the page's: {found.headings[:3]}")
    jumps = [
        text
        for (before, _), (level, text) in zip(found.headings, found.headings[1:], strict=False)
        if level > before + 1
    ]
    said += [f"a heading is deeper than the one before allows: {text!r}" for text in jumps]
    said += ["a picture has no name"] * found.images.count(None)
    if found.unscoped_headers:
        said.append(f"{found.unscoped_headers} table headers do not say what they head")
    if found.unlabelled_fields:
        said.append("a field has no label")
    if found.scripts:
        said.append("it has a script")
    if found.inline_styles:
        said.append("it has a style of its own, which its policy refuses")
    said += [f"it leads elsewhere: {link}" for link in found.links if not link.startswith(("/", "#"))]
    return said
