"""What can be wrong with a patch.

::

    DeltaError
    ├── PatchError     the bytes are no patch, or one of other files: use the whole file
    └── NoPatchError   no patch can be made of these files by that method
"""


class DeltaError(Exception):
    """A patch can't be made or applied; the text says why."""


class PatchError(DeltaError):
    """A patch is malformed, is cut short, or was made for another base or another size."""


class NoPatchError(DeltaError):
    """The files are larger than patches are made for."""
