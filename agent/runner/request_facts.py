"""What a request says about itself beside its tensors, as far as somebody here looks at it: its id, one parameter.

Both are written by whoever asks: bounded, and never anything but text.
"""

from typing import NamedTuple

import msgspec

from agent.protocol.drift import MAX_SLICE_VALUE, OTHER_SLICE

MAX_ID = 128
"""Characters of an id that is remembered; by a longer one nobody could ever be asked."""

NO_VALUE = msgspec.Raw(b"")

_MAX_RAW = 6 * MAX_SLICE_VALUE + 2
"""Bytes of JSON in which ``MAX_SLICE_VALUE`` characters fit however they are escaped."""


class RequestFacts(NamedTuple):
    """Of one request."""

    id: str = ""
    """Empty where it carries none, or one that is not remembered (too long, unprintable)."""
    value: str | None = None
    """Of the parameter that slices are made by, as text; None where the request does not carry it."""


NO_FACTS = RequestFacts()


def facts_of(request_id: str, value: msgspec.Raw = NO_VALUE) -> RequestFacts:
    """``value``: the parameter's JSON, as it came; :data:`NO_VALUE` where there was none."""
    if len(request_id) > MAX_ID or not request_id.isprintable():
        request_id = ""
    raw = bytes(value)
    if not request_id and not raw:
        return NO_FACTS
    return RequestFacts(request_id, value_text(raw) if raw else None)


def value_text(raw: bytes) -> str | None:
    """A JSON value as text, the same for every way to write it; None for ``null``."""
    if len(raw) > _MAX_RAW:
        return OTHER_SLICE
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return OTHER_SLICE  # 1e999, half a surrogate pair, no UTF-8: without slices nobody would look at it either
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case int() | float():
            text = repr(value)
        case str():
            text = value
        case _:
            return OTHER_SLICE
    return (
        text if 0 < len(text) <= MAX_SLICE_VALUE and text.isprintable() and "=" not in text else OTHER_SLICE
    )
