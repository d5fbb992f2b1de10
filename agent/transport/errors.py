"""What can be wrong between a device and its hub.

::

    TransportError
    ├── LinkDownError            no connection to the broker, or it was lost before the answer (an ``OSError`` too)
    ├── PublishRefusedError      the broker does not take this message, for instance by its access rules
    ├── TransferError            a file can't be fetched from the hub
    │   ├── NotFoundError        the hub has no such file
    │   ├── NoLocationError      the hub offers it over MQTT alone
    │   ├── BusyError            whoever has it asks to come again later
    │   ├── StuckError           it came, but slower than the minimum rate
    │   └── NoAnswerError        no answer in time, or no way there: not the fault of what is there
    ├── BundleError              a bundle can't be used: it is none, was changed, is cut off, or gone
    ├── EnrolmentError           the hub did not enrol this device, or its answer can't be trusted
    └── IdentityError            the device's key or certificate
        ├── IdentityExistsError  there is one already; it is never overwritten
        └── IdentityMissingError there is none
"""


class TransportError(Exception):
    """Device and hub could not talk; the text says what, where and what is allowed."""


class LinkDownError(TransportError, ConnectionError):
    """There is no connection to the broker, or it was lost before the answer came."""


class PublishRefusedError(TransportError):
    """The broker does not take this message; the text has its reason."""


class TransferError(TransportError):
    """A file can't be fetched from the hub."""


class NotFoundError(TransferError):
    """The hub has no such file."""


class NoLocationError(TransferError):
    """The hub offers the artifact over MQTT alone."""


class BusyError(TransferError):
    """Whoever has it asks to come again later.

    Args:
        seconds: when it says so, how much later.
    """

    def __init__(self, text: str, seconds: float | None = None) -> None:
        super().__init__(text)
        self.seconds = seconds


class StuckError(TransferError):
    """It came, but slower than the minimum rate."""


class NoAnswerError(TransferError):
    """No answer came in time, or there was no way there: no fault of what is there."""


class BundleError(TransportError):
    """A bundle can't be used; ``code`` is stable, for programs."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class EnrolmentError(TransportError):
    """The hub did not enrol this device, or its answer can't be trusted."""


class IdentityError(TransportError):
    """The device's key or certificate can't be used."""


class IdentityExistsError(IdentityError):
    """There is a key already; it is never overwritten."""


class IdentityMissingError(IdentityError):
    """There is no key yet."""
