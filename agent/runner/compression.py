"""Compressed requests and answers: ``Content-Encoding`` and ``Accept-Encoding`` (RFC 9110), gzip and deflate.

``deflate`` is the zlib format, as the RFC and tritonclient have it. A request is never inflated beyond the limit of a
plain one. ``Inference-Header-Content-Length`` counts the bytes before compression, both ways.
"""

import zlib
from collections.abc import Sequence
from http import HTTPStatus

from agent.runner.errors import RequestError

_WINDOW_BITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""How zlib names the two formats."""

_LEVEL = 1
"""An answer is compressed in the event loop; higher levels take several times as long for a few percent."""


def inflate(body: bytes, encoding: bytes, maximum: int) -> bytes:
    """The request's body as it was before compression.

    Args:
        body: as it came.
        encoding: the header ``Content-Encoding``.
        maximum: bytes that the result may have.

    Raises:
        RequestError: 415: another encoding; 413: more than ``maximum`` bytes, of which no more are ever made;
            400: damaged, cut short, or something follows.
    """
    name = encoding.strip().lower()
    if name == b"identity":
        return body
    bits = _WINDOW_BITS.get(name)
    if bits is None:
        raise RequestError(
            f"header Content-Encoding: {encoding.decode('latin-1')!r} is not supported; allowed: gzip, deflate, identity",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    stream = zlib.decompressobj(bits)
    try:
        plain = stream.decompress(body, maximum + 1)
    except zlib.error as error:
        raise RequestError(f"body: not {name.decode()}: {error}") from error
    if len(plain) > maximum:
        raise RequestError(
            f"body: more than {maximum} bytes when decompressed, at most {maximum} are allowed",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    if not stream.eof:
        raise RequestError(f"body: ends in the middle of the {name.decode()} data")
    # Many tiny members one after the other would cost time by the square of their number.
    if stream.unused_data:
        raise RequestError(f"body: {len(stream.unused_data)} bytes follow the {name.decode()} data")
    return plain


def wanted_encoding(accept: bytes) -> bytes | None:
    """What an answer is to be compressed with: the coding a client asks for, where it names exactly one.

    A list of several is what HTTP libraries send by default, without anyone having asked; compressing floats for a
    client on the same machine would only cost both.

    Args:
        accept: the header ``Accept-Encoding``.
    """
    named = [_coding(part) for part in accept.lower().split(b",")]
    acceptable = {name for name, accepted in named if accepted and name != b"identity"}
    if len(acceptable) != 1:
        return None
    name = acceptable.pop()
    return name if name in _WINDOW_BITS else None


def _coding(part: bytes) -> tuple[bytes, bool]:
    name, _, weight = part.partition(b";")
    value = weight.strip().removeprefix(b"q=").strip()
    return name.strip(), not value or bool(value.strip(b"0."))


def compress(parts: Sequence[bytes], encoding: bytes) -> list[bytes]:
    """An answer's body in ``encoding``, one of those that :func:`wanted_encoding` gives."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[encoding])
    return [b"".join([*map(stream.compress, parts), stream.flush()])]
