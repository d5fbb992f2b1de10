"""Which bytes of a file a request asks for (RFC 9110, sections 13 and 14). Pure."""

import re

from msgspec import Struct

from cloud_hub.errors import RangeError

_ONE_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*", re.ASCII)


class Stretch(Struct, frozen=True, kw_only=True):
    """Bytes ``begin`` up to but not including ``end`` of ``size``; ``partial``: answered with 206."""

    begin: int
    end: int
    size: int
    partial: bool

    @property
    def content_range(self) -> str:
        return f"bytes {self.begin}-{self.end - 1}/{self.size}"


def asked_stretch(size: int, etag: str, wanted: str | None, if_range: str | None) -> Stretch:
    """What to send of a file of ``size`` bytes.

    Another unit, several ranges or one that is not well formed are not understood, and so are not there: the whole file. The
    same where ``If-Range`` names another file (a date never names this one).

    Args:
        size: of the file.
        etag: its strong entity tag, quotes included.
        wanted: the ``Range`` header.
        if_range: the ``If-Range`` header.

    Raises:
        RangeError: 416, no byte of it is there.
    """
    whole = Stretch(begin=0, end=size, size=size, partial=False)
    if wanted is None or (if_range is not None and if_range.strip() != etag):
        return whole
    found = _ONE_RANGE.fullmatch(wanted)
    if found is None:
        return whole
    first, last, suffix = found.groups()
    if suffix is not None:
        begin, end = max(0, size - int(suffix)), size
        if int(suffix) == 0 or size == 0:
            raise RangeError(f"no byte of {wanted!r} is there", size)
    else:
        begin = int(first)
        if last and int(last) < begin:
            return whole
        end = min(size, int(last) + 1) if last else size
        if begin >= size:
            raise RangeError(f"it has {size} bytes, asked was for {wanted!r}", size)
    return Stretch(begin=begin, end=end, size=size, partial=True)


def names(header: str | None, etag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags (``If-Match``, ``If-None-Match``) names this one; ``*`` names every one."""
    if header is None:
        return False
    tags = [tag.strip() for tag in header.split(",")]
    if weak:
        tags = [tag.removeprefix("W/") for tag in tags]
    return "*" in tags or etag in tags
