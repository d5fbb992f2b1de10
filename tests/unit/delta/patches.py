"""Files with known differences, and both ends of a patch."""

import io
from collections.abc import Iterator

import numpy as np

from agent.delta.apply import apply_patch
from agent.delta.format import ReadAt
from agent.protocol.patches import PatchMethod


def weights(size: int, seed: int = 1) -> bytes:
    """Bytes as quantised weights have them."""
    rows = np.random.default_rng(seed).normal(0, 25, size)
    return np.clip(np.rint(rows), -128, 127).astype(np.int8).tobytes()


def floats(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, count).astype(np.float32)


def nudged(data: bytes, share: float, seed: int = 2) -> bytes:
    """One more or less in ``share`` of the bytes."""
    random = np.random.default_rng(seed)
    values = np.frombuffer(data, np.uint8)
    step = random.choice(np.array([1, 255], np.uint8), len(values))
    moved: np.ndarray = values + step * (random.random(len(values)) < share)
    return bytes(moved.astype(np.uint8))


def reader(base: bytes) -> ReadAt:
    return lambda offset, length: base[offset : offset + length]


def pieces(patch: bytes, base: bytes, method: PatchMethod, size: int, start: int = 0) -> Iterator[bytes]:
    return apply_patch(io.BytesIO(patch), reader(base), method, size=size, start=start)


def applied(patch: bytes, base: bytes, method: PatchMethod, size: int, start: int = 0) -> bytes:
    return b"".join(pieces(patch, base, method, size, start))
