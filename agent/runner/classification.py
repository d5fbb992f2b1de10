"""The classification extension: an output's highest values, told as ``value:index`` or ``value:index:label``.

Specification: Triton's ``extension_classification.md``. Numbers are written as its server writes them: floats with six
decimals.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agent.runner.backends import Array


def classify(values: Array, count: int, *, batched: bool, labels: Sequence[str]) -> Array:
    """The ``count`` highest values, highest first; of equal ones that of the lower index.

    Args:
        values: an output of numbers of any shape.
        count: from 1; where there are fewer values, all of them.
        batched: the first dimension is that of rows, each of which is classified.
        labels: of the classes; used where there is one for each.

    Returns:
        dtype object, every element ``bytes``; shape (rows, count), or (count,) where not ``batched``.
    """
    rows = values.reshape(len(values) if batched else 1, -1)
    classes = rows.shape[1]
    # Stable from the end, then turned round: of equal values the lower index comes first.
    order = classes - 1 - np.argsort(rows[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :count]
    told: Array = np.empty(order.shape, dtype=object)
    names = labels if len(labels) == classes else None
    for row, indexes in enumerate(order.tolist()):
        for place, index in enumerate(indexes):
            told[row, place] = _told(rows[row, index].item(), index, names)
    return told if batched else told[0]


def _told(value: Any, index: int, labels: Sequence[str] | None) -> bytes:
    number = f"{value:.6f}" if isinstance(value, float) else str(int(value))
    return (f"{number}:{index}" if labels is None else f"{number}:{index}:{labels[index]}").encode()
