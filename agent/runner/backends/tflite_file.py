"""Looks at a TFLite file before the interpreter sees it: only its root table, without the ``flatbuffers`` package.

LiteRT verifies the rest itself (for tflite-runtime, :mod:`agent.runner.backends.tflite_structure` does); what it would
also do is follow references to other files, and that is what is refused here (fields ``external_buffer_groups`` and ``external_buffers`` of ``Model`` in LiteRT's schema).
"""

from agent.runner.backends.errors import HostileModelError, UnreadableModelError

_IDENTIFIER = b"TFL3"
_HEADER_BYTES = 8
_EXTERNAL_FIELDS = (8, 9)
_NOT_A_FILE = "TFLite file: truncated, or not a TFLite flatbuffer"


def check_tflite_file(content: bytes) -> None:
    """Refuse what no release may contain.

    Raises:
        HostileModelError: its weights lie in other files.
        UnreadableModelError: not a TFLite file.
    """
    if len(content) < _HEADER_BYTES or content[4:8] != _IDENTIFIER:
        raise UnreadableModelError(_NOT_A_FILE)
    root = _number(content, 0, 4)
    if root < _HEADER_BYTES:
        raise UnreadableModelError(_NOT_A_FILE)
    vtable = root - _number(content, root, 4, signed=True)
    size = _number(content, vtable, 2)
    for field in _EXTERNAL_FIELDS:
        slot = 4 + 2 * field
        if slot + 2 <= size and _number(content, vtable + slot, 2):
            raise HostileModelError("TFLite file: keeps its data in other files (external buffers)")


def _number(content: bytes, position: int, width: int, *, signed: bool = False) -> int:
    if not 0 <= position <= len(content) - width:
        raise UnreadableModelError(_NOT_A_FILE)
    return int.from_bytes(content[position : position + width], "little", signed=signed)
