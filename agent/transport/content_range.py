"""``Content-Range`` of a partial answer (RFC 9110, 14.4)."""

import re

from msgspec import Struct

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


class ContentRange(Struct, frozen=True, kw_only=True):
    """Bytes ``begin`` up to but not including ``end``, of ``total``."""

    begin: int
    end: int
    total: int


def parse_content_range(value: str) -> ContentRange | None:
    """None where it is none, or contradicts itself; a total that is not known (``*``) is of no use here."""
    found = _CONTENT_RANGE.fullmatch(value.strip())
    if found is None:
        return None
    begin, last, total = (int(part) for part in found.groups())
    return ContentRange(begin=begin, end=last + 1, total=total) if begin <= last < total else None
