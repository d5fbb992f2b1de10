"""Many small additions in one large integer: fast without NumPy, which a device's supervisor never loads.

The highest bit of each lane is left out of the addition, so that no carry crosses, and added without carry after it
(Hacker's Delight, 2-18).
"""

from functools import lru_cache

PIECE_BYTES = 64 * 1024
"""How much is added at once: the integers in between are a few times as large."""
_WORD = 4


@lru_cache(maxsize=4)
def _lanes(lane: bytes, size: int) -> int:
    return int.from_bytes(lane * (size // len(lane)), "little")


def add_bytes(base: bytes, differences: bytes) -> bytes:
    """Byte by byte modulo 256; both of one length."""
    size = len(base)
    low, high = _lanes(b"\x7f", size), _lanes(b"\x80", size)
    return _add(int.from_bytes(base, "little"), int.from_bytes(differences, "little"), low, high, size)


def add_words(base: bytes, differences: bytes) -> bytes:
    """Little-endian 32-bit words plus zigzag differences modulo 2**32; both of one length, a multiple of four."""
    size = len(base)
    ones = _lanes(b"\1\0\0\0", size)
    low, high = _lanes(b"\xff\xff\xff\x7f", size), _lanes(b"\0\0\0\x80", size)
    zigzag = int.from_bytes(differences, "little")
    negative = zigzag & ones
    plain = zigzag >> 1 & low ^ (negative << 8 * _WORD) - negative
    return _add(int.from_bytes(base, "little"), plain, low, high, size)


def _add(first: int, second: int, low: int, high: int, size: int) -> bytes:
    return ((first & low) + (second & low) ^ (first ^ second) & high).to_bytes(size, "little")
