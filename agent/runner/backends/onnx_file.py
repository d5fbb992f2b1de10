"""Looks through an ONNX file before ONNX Runtime sees it: a walk over the protobuf, without the ``onnx`` package.

Only what decides is read (field numbers of onnx.proto3): tensors that keep their data elsewhere, and operators of
a domain that is not known. A later occurrence of a field is looked at like the first one, since protobuf merges
them. Everything else is skipped by its length.
"""

from collections.abc import Iterator

from agent.runner.backends.errors import HostileModelError, UnreadableModelError

KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator domains a release may use: ONNX's own two, and ONNX Runtime's quantized operators."""

REFUSED_OPERATORS = frozenset({"EPContext"})
"""Reads a file that an attribute names."""

_OWN_FORMAT = b"ORTM"
"""Identifier of the flatbuffer that ONNX Runtime takes in an ONNX file's place."""

MAX_DEPTH = 32
MAX_FIELDS = 2_000_000
"""Messages and fields looked at; a file with more is refused rather than walked for ever."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_TAG = 2**32 - 1
_MORE = 0x80
"""Bit of a varint's byte: another one follows."""

# Which fields of a message hold a message that is walked too: field number → its kind.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7


def check_onnx_file(content: bytes) -> None:
    """Refuse what no release may contain.

    Raises:
        HostileModelError: external data, an operator of an unknown domain, one that reads files, training graphs,
            or a structure too deep or too large to look through.
        UnreadableModelError: not a protobuf message.
    """
    if content[4:8] == _OWN_FORMAT:
        # It also reads as a message whose first field is text, and its initializers may lie in other files.
        raise HostileModelError(
            "ONNX file: carries the mark of ONNX Runtime's own format, which is not looked through"
        )
    _Walk(memoryview(content)).visit("model", 0, len(content), 0)


class _Walk:
    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._fields_left = MAX_FIELDS

    def visit(self, kind: str, start: int, end: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise HostileModelError(f"ONNX file: nested deeper than {MAX_DEPTH} messages")
        children = _CHILDREN[kind]
        for field, wire, low, high in self._fields(start, end):
            if kind == "tensor":
                self._check_tensor(field, low)
            elif kind == "node":
                self._check_node(field, wire, low, high)
            child = children.get(field)
            if child is None:
                continue
            if wire != _BYTES:
                raise UnreadableModelError(f"ONNX file: field {field} of a {kind} has wire type {wire}")
            if child == "training":
                raise HostileModelError(
                    "ONNX file: holds a training graph; releases hold inference graphs only"
                )
            self.visit(child, low, high, depth + 1)

    def _check_tensor(self, field: int, value: int) -> None:
        # An enum is cut to 32 bits by the reader, so any value but 0 could become EXTERNAL (1).
        if field == _TENSOR_EXTERNAL_DATA or (field == _TENSOR_DATA_LOCATION and value != 0):
            raise HostileModelError("ONNX file: a tensor keeps its data in another file (external data)")

    def _check_node(self, field: int, wire: int, low: int, high: int) -> None:
        if field not in {_NODE_OPERATOR, _NODE_DOMAIN} or wire != _BYTES:
            return
        text = bytes(self._content[low:high]).decode("utf-8", "replace")
        if field == _NODE_OPERATOR and text in REFUSED_OPERATORS:
            raise HostileModelError(f"ONNX file: operator {text} reads other files")
        if field == _NODE_DOMAIN and text not in KNOWN_DOMAINS:
            known = ", ".join(sorted(domain or "(default)" for domain in KNOWN_DOMAINS))
            raise HostileModelError(f"ONNX file: operator domain {text!r} is unknown; allowed: {known}")

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(field, wire type, low, high): the payload's bounds; for a varint ``low`` is its value."""
        position = start
        while position < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise HostileModelError(f"ONNX file: more than {MAX_FIELDS} fields")
            tag, position = self._varint(position, end)
            field, wire = tag >> 3, tag & 7
            if field == 0 or tag > _MAX_TAG:
                raise UnreadableModelError("ONNX file: not a protobuf message")
            if wire == _VARINT:
                value, position = self._varint(position, end)
                yield field, wire, value, value
                continue
            size, position = self._size(wire, position, end)
            if position + size > end:
                raise UnreadableModelError("ONNX file: truncated, or not a protobuf message")
            yield field, wire, position, position + size
            position += size

    def _size(self, wire: int, position: int, end: int) -> tuple[int, int]:
        if wire == _BYTES:
            return self._varint(position, end)
        if wire == _FIXED64:
            return 8, position
        if wire == _FIXED32:
            return 4, position
        raise UnreadableModelError(f"ONNX file: not a protobuf message (wire type {wire})")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                break
            byte = self._content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < _MORE:
                return value, position
        raise UnreadableModelError("ONNX file: truncated, or not a protobuf message")
