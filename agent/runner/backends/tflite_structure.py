"""Checks that every reference in a TFLite file stays inside it, for a library that does not check.

LiteRT verifies a file before it reads it. tflite-runtime 2.14 does not: of the 99 beginnings of a file of 496 bytes (every
5th), 70 ended its process. What is walked here is what that version reads; a part that it does not know is refused.
Layout: https://flatbuffers.dev/internals/, with the field numbers of TFLite's schema.fbs.
"""

import struct
from typing import NamedTuple

from agent.runner.backends.errors import HostileModelError, UnreadableModelError


class _Vector(NamedTuple):
    width: int


class _Tables(NamedTuple):
    kind: str


class _Table(NamedTuple):
    kind: str


class _Union(NamedTuple):
    """Its type stands in the field before it."""

    kinds: dict[int, str]
    """Those with references in them; any other is a table of plain numbers."""


_Field = int | _Vector | _Tables | _Table | _Union
"""A number is a scalar's width."""

_TEXT = _Vector(1)
_OPTIONS = _Union({3: "concat_embeddings", 17: "numbers", 30: "numbers", 111: "texts", 115: "numbers"})
_INDEXES = _Union({1: "numbers", 2: "shorts", 3: "bytes"})

_SCHEMA: dict[str, dict[int, _Field]] = {
    "model": {
        0: 4,
        1: _Tables("operator_code"),
        2: _Tables("graph"),
        3: _TEXT,
        4: _Tables("buffer"),
        5: _Vector(4),
        6: _Tables("named_number"),
        7: _Tables("signature"),
    },
    "operator_code": {0: 1, 1: _TEXT, 2: 4, 3: 4},
    "graph": {0: _Tables("tensor"), 1: _Vector(4), 2: _Vector(4), 3: _Tables("operator"), 4: _TEXT},
    "tensor": {
        0: _Vector(4),
        1: 1,
        2: 4,
        3: _TEXT,
        4: _Table("quantization"),
        5: 1,
        6: _Table("sparsity"),
        7: _Vector(4),
        8: 1,
        9: _Tables("variant"),
    },
    "quantization": {
        0: _Vector(4),
        1: _Vector(4),
        2: _Vector(4),
        3: _Vector(8),
        4: 1,
        5: _Union({1: "bytes"}),
        6: 4,
    },
    "sparsity": {0: _Vector(4), 1: _Vector(4), 2: _Tables("dimension")},
    "dimension": {0: 1, 1: 4, 2: 1, 3: _INDEXES, 4: 1, 5: _INDEXES},
    "variant": {0: _Vector(4), 1: 1, 2: 1},
    "operator": {
        0: 4,
        1: _Vector(4),
        2: _Vector(4),
        3: 1,
        4: _OPTIONS,
        5: _Vector(1),
        6: 1,
        7: _Vector(1),
        8: _Vector(4),
        9: 8,
        10: 8,
    },
    "buffer": {0: _Vector(1), 1: 8, 2: 8},
    "named_number": {0: _TEXT, 1: 4},
    "signature": {0: _Tables("named_number"), 1: _Tables("named_number"), 2: _TEXT, 4: 4},
    "plain": {},
    "numbers": {0: _Vector(4)},
    "shorts": {0: _Vector(2)},
    "bytes": {0: _Vector(1)},
    "texts": {0: _TEXT, 1: _TEXT},
    "concat_embeddings": {0: 4, 1: _Vector(4), 2: _Vector(4)},
}
_REQUIRED = {
    "model": (1, 2, 4),
    "graph": (0, 1, 2, 3),
    "operator": (1, 2),
    "signature": (0, 1, 2),
    "named_number": (0,),
}
"""Fields without which the library follows a null reference."""

_SECOND_OPTIONS = 12
"""Field of an operator; StableHLO, in newer files."""

MAX_TABLES = 1_000_000


def check_structure(content: bytes) -> None:
    """Walk every table.

    Raises:
        UnreadableModelError: a reference leaves the file, or what is needed is absent.
        HostileModelError: more tables than any model has.
    """
    walk = _Walk(content)
    walk.table(walk.number("<I", 0), "model")


class _Walk:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._tables_left = MAX_TABLES

    def number(self, form: str, position: int) -> int:
        try:
            if position < 0:
                raise _outside()
            return int(struct.unpack_from(form, self._content, position)[0])
        except struct.error as error:
            raise _outside() from error

    def table(self, position: int, kind: str) -> None:
        self._tables_left -= 1
        if self._tables_left < 0:
            raise HostileModelError(f"TFLite file: more than {MAX_TABLES} tables")
        vtable = position - self.number("<i", position)
        slots, size = self.number("<H", vtable), self.number("<H", vtable + 2)
        self._bytes(vtable, slots)
        self._bytes(position, size)
        offsets = {
            field: offset
            for field in range((slots - 4) // 2)
            if (offset := self.number("<H", vtable + 4 + 2 * field))
        }
        if any(offset + 1 > size for offset in offsets.values()):
            raise _outside()
        missing = [field for field in _REQUIRED.get(kind, ()) if field not in offsets]
        if missing:
            raise UnreadableModelError(f"TFLite file: a table of kind {kind} lacks field {missing[0]}")
        if kind == "operator" and _SECOND_OPTIONS in offsets:
            raise UnreadableModelError(
                "TFLite file: has StableHLO options, which tflite-runtime does not know"
            )
        for field, what in _SCHEMA[kind].items():
            if field in offsets:
                width = what if isinstance(what, int) else 4
                if offsets[field] + width > size:
                    raise _outside()
                self._field(what, position + offsets[field], position + offsets.get(field - 1, 0))

    def _field(self, what: _Field, position: int, before: int) -> None:
        if isinstance(what, int):
            return
        target = position + self.number("<I", position)
        match what:
            case _Vector(width):
                self._bytes(target + 4, width * self.number("<I", target))
            case _Tables(kind):
                count = self.number("<I", target)
                self._bytes(target + 4, 4 * count)
                for place in range(target + 4, target + 4 + 4 * count, 4):
                    self.table(place + self.number("<I", place), kind)
            case _Table(kind):
                self.table(target, kind)
            case _Union(kinds):
                self.table(target, kinds.get(self.number("<B", before), "plain"))

    def _bytes(self, position: int, count: int) -> None:
        if position < 0 or position + count > len(self._content):
            raise _outside()


def _outside() -> UnreadableModelError:
    return UnreadableModelError("TFLite file: truncated, or a reference leaves the file")
