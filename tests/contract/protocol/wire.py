"""Golden files as the wire's bytes, and what stands in a message."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

import agent.protocol
from agent.protocol.codec import decode_json, decode_msgpack, encode_json, encode_msgpack


def encode(message: Any, form: str) -> bytes:
    """What a golden file holds: the JSON, or the msgpack as hexadecimal digits."""
    return encode_json(message) if form == "json" else encode_msgpack(message).hex().encode()


def decode(golden: bytes, kind: Any, form: str) -> Any:
    return (
        decode_json(golden, kind) if form == "json" else decode_msgpack(bytes.fromhex(golden.decode()), kind)
    )


def wire_structs() -> set[type[Struct]]:
    """Every public struct that a module of ``agent.protocol`` defines."""
    found: set[type[Struct]] = set()
    for info in pkgutil.iter_modules(agent.protocol.__path__, "agent.protocol."):
        module = importlib.import_module(info.name)
        found |= {
            thing
            for thing in vars(module).values()
            if isinstance(thing, type)
            and issubclass(thing, Struct)
            and thing.__module__ == info.name
            and not thing.__name__.startswith("_")
        }
    return found


def structs_in(value: Any) -> Iterator[Struct]:
    """Every struct in a message, itself included."""
    if isinstance(value, Struct):
        yield value
        for name in value.__struct_fields__:
            yield from structs_in(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from structs_in(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from structs_in(item)


def fields_that_show(message: Any) -> set[tuple[type[Struct], str]]:
    """Fields of a message whose value is not the default: a change of their name or form changes its bytes."""
    shown: set[tuple[type[Struct], str]] = set()
    for struct in structs_in(message):
        for field in msgspec.structs.fields(struct):
            if field.required or getattr(struct, field.name) != field.default:
                shown.add((type(struct), field.name))
    return shown
