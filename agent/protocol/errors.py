"""What can be wrong with a message.

::

    ProtocolError
    ├── MessageTooLargeError     over the one size limit
    ├── MalformedMessageError    not the format, or a field that breaks its rule
    │   └── NewerSchemaError     well formed, but of a schema this program does not know
    └── UnknownTopicError        not a topic of this protocol
"""


class ProtocolError(Exception):
    """A message does not keep the wire contract; the text says what, where and what is allowed."""


class MessageTooLargeError(ProtocolError):
    """A message is over ``limits.MAX_MESSAGE_BYTES``."""


class MalformedMessageError(ProtocolError):
    """A message can't be decoded, or one of its fields breaks its rule."""


class NewerSchemaError(MalformedMessageError):
    """A document was written for a newer schema than this program knows."""


class UnknownTopicError(ProtocolError):
    """A topic is not one of this protocol's."""
