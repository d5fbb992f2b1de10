"""Components of embeddings, as they stand in a reference: little-endian float32."""

import numpy as np

from agent.drift.errors import BadReferenceError
from agent.drift.views import Floats
from agent.protocol.drift import Components

FLOAT32 = np.dtype("<f4")


def decode_components(components: Components) -> tuple[Floats, Floats]:
    """Mean, shape (elements,), and vectors, shape (components, elements), as float64.

    Raises:
        BadReferenceError: lengths do not fit, or a number is not finite.
    """
    where = f"reference: embeddings of {components.source} {components.tensor!r}"
    size = len(components.mean)
    if not size or size % FLOAT32.itemsize or not components.vectors or len(components.vectors) % size:
        raise BadReferenceError(
            f"{where}: {size} bytes of mean and {len(components.vectors)} of vectors; "
            "both are float32, and each vector is as long as the mean"
        )
    mean = np.frombuffer(components.mean, dtype=FLOAT32).astype(np.float64)
    vectors = np.frombuffer(components.vectors, dtype=FLOAT32).astype(np.float64).reshape(-1, len(mean))
    if not (np.isfinite(mean).all() and np.isfinite(vectors).all()):
        raise BadReferenceError(f"{where}: every number must be finite")
    return mean, vectors


def projections(components: Components | None) -> dict[int, tuple[Floats, Floats]]:
    """Number of each component → the mean and the component; empty where there are none."""
    if components is None:
        return {}
    mean, vectors = decode_components(components)
    return {number: (mean, vector) for number, vector in enumerate(vectors)}
