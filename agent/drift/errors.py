"""What can be wrong with drift bookkeeping.

::

    DriftError
    ├── BadReferenceError   a reference that contradicts itself or can never be judged
    ├── SignalError         a tensor does not carry the signal that is to be taken from it
    └── LayoutError         counts that do not have the reference's layout, or windows that do not belong together
"""


class DriftError(Exception):
    """Drift bookkeeping was given something it can't use; the text says what, where and what is allowed."""


class BadReferenceError(DriftError):
    """A reference contradicts itself, or no window could ever be judged by it."""


class SignalError(DriftError):
    """A tensor is absent, or has a shape or dtype from which the signal can't be taken."""


class LayoutError(DriftError):
    """Counts do not have the reference's layout, or windows of different releases were to be merged."""
