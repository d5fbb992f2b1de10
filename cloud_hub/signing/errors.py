"""What can go wrong while metadata is made or signed.

::

    SigningError
    ├── KeyFileError          a key file is missing, exists already, or can't be read
    ├── CeremonyError         the parts of a ceremony don't fit: too few signers, one key twice, a bad name
    ├── RepositoryStateError  the store lacks metadata, or holds some that can't be read
    ├── DraftError            a draft of a model's role can't be made, signed or published
    │   ├── StaleDraftError        it was made for another version than the one published now
    │   ├── SignatureRefusedError  not an approver of this model, or not over exactly this draft
    │   └── ThresholdNotMetError   too few approvers have signed
    └── ApprovalError         an approver's client could not sign
        ├── TrustFolderError       the approver's own folder lacks the root, or is damaged
        ├── HubAnswerError         the hub can't be reached, or says no
        ├── UntrustedBaseError     what the hub publishes does not verify from the trusted root
        └── DraftRefusedError      the draft does something else than add the named release
"""


class SigningError(Exception):
    """Metadata could not be made or signed; the text says what, where and what is allowed."""


class KeyFileError(SigningError):
    """A key file is missing, exists already, or can't be read."""


class CeremonyError(SigningError):
    """The parts of a ceremony don't fit together."""


class RepositoryStateError(SigningError):
    """The metadata store lacks a file, or holds one that can't be read."""


class DraftError(SigningError):
    """A draft of a model's role can't be made, signed or published."""


class StaleDraftError(DraftError):
    """The draft was made for another version than the one published now: its signatures are void."""


class SignatureRefusedError(DraftError):
    """The signature is not by an approver of this model, or not over exactly this draft."""


class ThresholdNotMetError(DraftError):
    """Too few approvers have signed the draft."""


class ApprovalError(SigningError):
    """An approver's client could not sign."""


class TrustFolderError(ApprovalError):
    """A person's own trust folder lacks its root, is damaged, or can't be written."""


class HubAnswerError(ApprovalError):
    """The hub can't be reached, says no, or answers something that can't be read."""


class UntrustedBaseError(ApprovalError):
    """What the hub publishes does not verify from the approver's own trusted root."""


class DraftRefusedError(ApprovalError):
    """The draft does something else than add the named release; nothing was signed."""
