"""One batch of a tensor, seen as rows, as pictures or as sound; each view is made once, when it is first asked for."""

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from agent.drift.errors import SignalError
from agent.protocol.drift import Layout

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
Pixels = NDArray[np.floating]
"""float32 where it holds every value of the tensor's type, else float64."""

AXES: dict[Layout, int] = {"HW": 2, "HWC": 3, "CHW": 3}
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
COLOURS = 3

_EXACT_IN_FLOAT32 = 2
"""Bytes of the largest integer type that float32 holds."""


class Views:
    """A batch of shape (rows, …), rows > 0, of any number type; nothing writes to it."""

    def __init__(self, tensor: Array) -> None:
        self._tensor = tensor
        self._pictures: dict[Layout, Pixels] = {}
        self._luma: dict[Layout, Pixels] = {}

    @property
    def rows(self) -> int:
        return len(self._tensor)

    @cached_property
    def exact(self) -> Floats:
        """float64 of the tensor's own shape."""
        return self._tensor.astype(np.float64)

    @cached_property
    def flat(self) -> Floats:
        """float64 of shape (rows, elements), contiguous.

        So a row is reduced along an axis of its own, and the result does not depend on the batch it came in.
        """
        return np.ascontiguousarray(self.exact.reshape(self.rows, -1))

    def pictures(self, layout: Layout) -> Pixels:
        """Shape (rows, height, width, channels); a view where the layout allows it."""
        found = self._pictures.get(layout)
        if found is None:
            shape = (self.rows, *picture_shape(self._tensor.shape[1:], layout))
            pixels = self._tensor.reshape(shape).astype(_pixel_type(self._tensor.dtype), copy=False)
            if layout == "HW":
                pixels = pixels[..., None]
            elif layout == "CHW":
                pixels = np.moveaxis(pixels, 1, -1)
            self._pictures[layout] = found = pixels
        return found

    def luma(self, layout: Layout) -> Pixels:
        """Brightness of each pixel, shape (rows, height, width), contiguous.

        With three channels or four (the last is transparency) by :data:`LUMA`, else the mean of the channels.
        """
        found = self._luma.get(layout)
        if found is None:
            pixels = self.pictures(layout)
            channels = pixels.shape[-1]
            if channels in {COLOURS, COLOURS + 1}:
                kind = pixels.dtype.type
                red, green, blue = (kind(weight) for weight in LUMA)
                found = pixels[..., 0] * red
                found += pixels[..., 1] * green
                found += pixels[..., 2] * blue
            else:
                found = pixels[..., 0] if channels == 1 else pixels.sum(axis=-1) / (channels or np.nan)
            self._luma[layout] = found = np.ascontiguousarray(found)
        return found

    @cached_property
    def power(self) -> Floats:
        """Power of each frequency of a row that is one stretch of sound, shape (rows, frequencies).

        The first one is 0 Hz, the last one half the sampling rate. The mean is removed; Hann window.
        """
        flat = self.flat
        samples = flat.shape[1]
        centred = flat - (flat.sum(axis=1) / (samples or np.nan))[:, None]
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / max(samples - 1, 1))
        # Row by row: in a batch, several are transformed at once and round differently.
        spectra = [np.fft.rfft(row * window) for row in centred] if samples else []
        if not spectra:
            return np.empty((self.rows, 0))
        spectrum = np.stack(spectra)
        power: Floats = spectrum.real**2 + spectrum.imag**2
        return power


def _pixel_type(dtype: np.dtype[np.generic]) -> type[np.floating]:
    small = dtype.kind in "biu" and dtype.itemsize <= _EXACT_IN_FLOAT32
    return np.float32 if small or (dtype.kind == "f" and dtype.itemsize <= 4) else np.float64  # noqa: PLR2004 - bytes


def picture_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """``shape``, without its batch axis, with as many axes as the layout: others of size 1 are left out, the first first.

    Raises:
        SignalError: it can't be such a picture.
    """
    axes = list(shape)
    while len(axes) > AXES[layout] and 1 in axes:
        axes.remove(1)
    if len(axes) != AXES[layout]:
        raise SignalError(
            f"a row of shape {list(shape)} is no picture of layout {layout}, which has {AXES[layout]} axes"
        )
    return tuple(axes)


def channels_of(shape: tuple[int, ...], layout: Layout) -> int:
    """Channels of a picture of that shape (without batch axis); -1 where the shape leaves them open."""
    axes = picture_shape(shape, layout)
    return {"HW": 1, "HWC": axes[-1], "CHW": axes[0]}[layout]


def elements_of(shape: tuple[int, ...]) -> int | None:
    """Elements of a row of that shape (without batch axis); None where it leaves them open."""
    return None if -1 in shape else math.prod(shape)
