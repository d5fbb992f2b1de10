"""What clients are told of a model's outputs: fewer digits, or only the largest values.

Exact scores of every class are what copies of a model are trained on; most uses need neither.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from agent.protocol.access import OutputLimits
from agent.protocol.manifest import TensorSpec
from agent.runner.backends import Array

_WHOLE = 2.0**53
"""From here on every float64 is a whole number, so there is nothing to round."""


class OutputPolicy:
    """Applies :class:`~agent.protocol.access.OutputLimits` to one model's float outputs; others stay as they are.

    ``top_k`` acts on the last axis, so not on outputs whose only axis is the batch.
    """

    def __init__(self, limits: OutputLimits, outputs: Sequence[TensorSpec]) -> None:
        """Make it for the outputs of a model.

        Raises:
            ValueError: a limit is set that fits none of the outputs: a wall that is not there.
        """
        self._decimals = limits.decimals
        floats = [spec for spec in outputs if spec.datatype.startswith("FP")]
        ranked = frozenset(spec.name for spec in floats if spec.shape not in {(), (-1,)})
        if limits.decimals is not None and not floats:
            raise ValueError(f"decimals = {limits.decimals}: the model has no float output to round")
        if limits.top_k is not None and not ranked:
            raise ValueError(
                f"top_k = {limits.top_k}: the model has no float output with an axis beside the batch"
            )
        self._floats = frozenset(spec.name for spec in floats)
        self._top_k = limits.top_k
        self._ranked = ranked

    def apply(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """New outputs, of the same names, shapes and dtypes; the given arrays are not changed."""
        return {
            name: self._limited(name, array) if name in self._floats else array
            for name, array in outputs.items()
        }

    def _limited(self, name: str, array: Array) -> Array:
        if self._top_k is not None and name in self._ranked:
            array = keep_largest(array, self._top_k)
        return array if self._decimals is None else round_to(array, self._decimals)


def round_to(array: Array, decimals: int) -> Array:
    """Floats rounded to so many decimals, half to even; NaN and infinities stay, and no zero keeps a minus.

    The nearest float of the array's own dtype to each rounded value.
    """
    wide = array.astype(np.float64)
    small = np.abs(wide) < _WHOLE  # NaN and infinities are not
    rounded = np.where(small, np.round(np.where(small, wide, 0.0), decimals), wide)
    return (rounded + 0.0).astype(array.dtype)


def keep_largest(array: Array, k: int) -> Array:
    """The ``k`` largest values of the last axis where they were, and everywhere else 0.

    In a row with a value below 0 (logits, not scores) it is the row's smallest value everywhere else, because a 0 would stand
    above values that are kept. Of equal values those that come first are kept; NaN counts as infinite.
    """
    if k >= array.shape[-1]:
        return array
    order = np.argsort(np.where(np.isnan(array), -np.inf, -array), axis=-1, kind="stable")
    kept = order[..., :k]
    floor = np.fmin.reduce(array, axis=-1, keepdims=True, initial=0)
    limited = np.broadcast_to(floor, array.shape).astype(array.dtype)
    np.put_along_axis(limited, kept, np.take_along_axis(array, kept, axis=-1), axis=-1)
    return limited
