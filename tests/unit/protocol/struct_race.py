"""Four threads decode structs that nothing has decoded before, again and again: ``python struct_race.py ROUNDS described|bare``."""

import sys
import threading
import types

import msgspec

from agent.protocol.codec import describe_structs

DEPTH = 12
PAYLOAD = b'{"a":1,"b":{"x":1.5},"c":{"a":1,"b":{},"d":[{"a":1,"b":{}}]},"d":[{"a":1,"b":{}}]}'


def module(number: int) -> types.ModuleType:
    """A new one with structs that hold each other."""
    made = types.ModuleType(f"structs_{number}")
    sys.modules[made.__name__] = made
    text = "from __future__ import annotations\nimport msgspec\n"
    for level in range(DEPTH):
        inner = f"    c: S{level - 1} | None = None\n    d: tuple[S{level - 1}, ...] = ()\n" if level else ""
        text += f"class S{level}(msgspec.Struct):\n    a: int\n    b: dict[str, float]\n{inner}"
    exec(text, made.__dict__)
    return made


def race(structs: types.ModuleType) -> None:
    together = threading.Barrier(4)

    def decode(level: int) -> None:
        together.wait()
        msgspec.json.decode(PAYLOAD, type=getattr(structs, f"S{level}"))

    threads = [threading.Thread(target=decode, args=(DEPTH - 1 - number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    sys.setswitchinterval(1e-6)
    for number in range(int(sys.argv[1])):
        structs = module(number)
        if sys.argv[2] == "described":
            describe_structs()
        race(structs)
