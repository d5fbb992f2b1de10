"""What can be wrong with a model file or a run of it.

::

    BackendError
    ├── ModelRefusedError            not loaded; ``code`` is stable, the text is for people
    │   ├── RuntimeMissingError      runtime-missing: no library of that runtime is installed
    │   ├── UnreadableModelError     model-unreadable: no such file, too large, wrong digest, not this format
    │   ├── HostileModelError        model-hostile: external data, unknown operator domain, …
    │   └── ContractMismatchError    contract-mismatch: its tensors are not those of the manifest
    └── InferenceError               the runtime failed on an input
        ├── InvalidInputError        by the sender's fault: a value that the runtime does not take
        └── CancelledRunError        another thread asked for it
"""


class BackendError(Exception):
    """A model file or a run of it is wrong; the text says what and where."""


class ModelRefusedError(BackendError):
    """A model file was not loaded."""

    code = "model-refused"


class RuntimeMissingError(ModelRefusedError):
    """No library of that runtime is installed."""

    code = "runtime-missing"


class UnreadableModelError(ModelRefusedError):
    """The file is absent, too large, has another digest, or is not of its runtime's format."""

    code = "model-unreadable"


class HostileModelError(ModelRefusedError):
    """The file asks for something that no release may ask for."""

    code = "model-hostile"


class ContractMismatchError(ModelRefusedError):
    """The file's tensors are not those that the manifest declares."""

    code = "contract-mismatch"


class InferenceError(BackendError):
    """The runtime failed on an input."""


class InvalidInputError(InferenceError):
    """An input holds a value that the runtime does not take; its sender is to blame, not the model."""


class CancelledRunError(InferenceError):
    """The run was asked to end before it was done."""
