"""A small file that says by its first bytes whether it is whole: magic, SHA-256 of the rest, the rest."""

import hashlib
from pathlib import Path

_DIGEST_BYTES = hashlib.sha256().digest_size


def seal(magic: bytes, body: bytes) -> bytes:
    """What to write."""
    return magic + hashlib.sha256(body).digest() + body


def read_sealed(magic: bytes, path: Path) -> tuple[bytes | None, str | None]:
    """The body, or what is wrong with the file (nothing, where it is absent)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"unreadable ({error.strerror})"
    start = len(magic) + _DIGEST_BYTES
    body = data[start:]
    if data[:start] != magic + hashlib.sha256(body).digest():
        return None, "damaged (wrong checksum)"
    return body, None
