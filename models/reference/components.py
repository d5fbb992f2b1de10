"""Principal components of an embedding in the reference data: what its ``projection`` signals are projected on."""

import numpy as np

from agent.protocol.drift import Components, SignalSource
from agent.runner.backends import Array
from models.errors import DriftReferenceError

LARGEST_WIDTH = 4096
"""Elements of a row: mean and vectors stand in the signed reference, four bytes an element each."""


def principal_components(source: SignalSource, tensor: str, rows: Array, count: int) -> Components:
    """Mean and the first ``count`` directions of largest variance, from rows of shape (rows, …).

    Each vector has length 1, and its largest element is positive, so that the same data gives the same file.

    Raises:
        DriftReferenceError: a row is too long, or the data has fewer directions than asked for.
    """
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    known = flat[np.isfinite(flat).all(axis=1)]
    width = flat.shape[1]
    if width > LARGEST_WIDTH:
        raise DriftReferenceError(
            f"tensor {tensor!r} has {width} elements a row, a projection takes at most {LARGEST_WIDTH}"
        )
    mean = known.mean(axis=0) if len(known) else np.zeros(width)
    _, lengths, directions = np.linalg.svd(known - mean, full_matrices=False)
    found = int((lengths > lengths.max(initial=0.0) * 1e-6).sum())
    if found < count:
        raise DriftReferenceError(
            f"tensor {tensor!r}: its {len(known)} rows vary in {found} directions, {count} components are asked for"
        )
    vectors = directions[:count]
    largest = np.abs(vectors).argmax(axis=1)
    vectors = vectors * np.sign(vectors[np.arange(count), largest])[:, None]
    return Components(source=source, tensor=tensor, mean=_bytes(mean), vectors=_bytes(vectors))


def _bytes(values: Array) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()
