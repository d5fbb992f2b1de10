"""What can be wrong with what the device remembers.

::

    StoreError
    ├── QuotaExceededError      no room for an artifact within the byte quota
    ├── DiskFullError           no room for an artifact on the disk
    ├── ArtifactError           an artifact is not what it should be
    │   ├── MissingArtifactError  it is not on this device, or damaged
    │   └── HashMismatchError   its bytes do not have the digest they were fetched for
    ├── SchemaMissingError      a database without the tables this program needs
    ├── NotInitialisedError     a store that enrolment has not filled yet
    ├── UnavailableError        a database that can't be used now; it is tried again
    ├── DamagedError            a database (and, where it has one, its mirror) can't be read
    └── StoreClosedError        used after it was closed
"""


class StoreError(Exception):
    """The store can't do what was asked; the text says what, where and what is allowed."""


class QuotaExceededError(StoreError):
    """There is no room for an artifact within the byte quota."""


class DiskFullError(StoreError):
    """There is no room for an artifact on the disk, though the quota would allow it."""


class ArtifactError(StoreError):
    """An artifact is not what it should be."""


class MissingArtifactError(ArtifactError):
    """An artifact that is to be used is not on this device, or its bytes are damaged."""


class HashMismatchError(ArtifactError):
    """The bytes of an artifact do not have the digest they were fetched for."""


class SchemaMissingError(StoreError):
    """A database lacks the tables this program needs: run ``python -m agent.store.schema``."""


class NotInitialisedError(StoreError):
    """A store that enrolment fills has never been filled."""


class UnavailableError(StoreError):
    """A database can't be used now: a full or read-only disk, or it is being made anew."""


class DamagedError(StoreError):
    """A database (and, where it has one, its mirror) can't be read."""


class StoreClosedError(StoreError):
    """A store was used after it was closed."""
