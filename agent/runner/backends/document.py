"""``python -m agent.runner.backends.document`` prints docs/backends.md."""

import sys

from agent.runner.backends.datatypes import DATATYPES
from agent.runner.backends.support import SUPPORT, Support

_HEAD = """# Backends

<!-- Made by `make docs` from agent/runner/backends/support.py; a test fails if it is not current. -->

What each inference library can do here. One conformance suite (`tests/contract/runner/backends`) runs the same cases over all of
them, and over `tflite-runtime` in an environment of its own (`tests/integration/runner/test_tflite_legacy.py`).
"""

_NOTES = """
## Data types
They are those of inputs and outputs; an operator inside the model may take fewer. `BYTES` are arrays of dtype `object` whose elements are
`bytes`. ONNX Runtime's strings are text: bytes that are no UTF-8 are refused as the sender's fault.

## Batches
A first dimension of -1 in the manifest is the batch. An ONNX file must leave that dimension open; a TFLite file may fix it at 1, as
converters do: it is planned anew when the batch changes. The same input gives the same bits, whatever ran before. Rows of an
integer model give the same bits in a batch of any size; those of a float model agree to 1e-6.

## Names
ONNX: the names of the graph. TFLite: the names in the file's signature where it has exactly one, else those of the tensors, else
those without `serving_default_` and `:0`; the first naming that has all that the manifest declares. A refusal lists them all.

## Files that are not loaded
- Links, pipes, folders, files over 1 GiB, files of another digest.
- ONNX: external data (ONNX Runtime reads through a hard link when it opens the file itself), unknown operator domains, operators that read
  files (`EPContext`), training graphs, ONNX Runtime's own format (looked through by nobody), nesting deeper than 32.
- TFLite: external buffers, unknown custom operators, references that leave the file. tflite-runtime checks none of the last and crashed on
  most damaged files, so they are walked first.

A hard link to a model is a name like any other: the bytes are read once, hashed, and loaded from memory.

## tflite-runtime (`edgeward[tflite-legacy]`)
The only one with wheels for armv7. It needs `numpy<2`, so it is not in the lock (`make lock` names the extras it pins) and takes an
environment of its own; the base dependency is `numpy>=1.26` for its sake. On CPython 3.12 pip finds no such package. Beside
NumPy 2 it imports and then fails; the runtime is then refused, and not reported to the hub.
It computes some files differently without an error: with INT8 weights of one scale a column it takes the first scale for all (classes
agreed on 10 % of rows, on LiteRT 100 %). The golden vectors refuse such a release on the device.
"""


def page() -> str:
    """The page, Markdown."""
    rows: list[tuple[str, list[str]]] = [
        ("file format (`runtime` in the manifest)", [support.runtime for support in SUPPORT.values()]),
        ("installed by", [f"`edgeward[{support.extra}]`" for support in SUPPORT.values()]),
        ("data types", [_datatypes(support) for support in SUPPORT.values()]),
        ("BYTES", ["UTF-8 only" if support.text_only else "any bytes" for support in SUPPORT.values()]),
        ("quantized inputs and outputs", [support.quantized_io for support in SUPPORT.values()]),
        ("a run can be cancelled", [_yes(support.cancel) for support in SUPPORT.values()]),
        ("other threads go on while it runs", [_yes(support.releases_gil) for support in SUPPORT.values()]),
        ("wheels for Linux", [support.wheels for support in SUPPORT.values()]),
    ]
    lines = [f"| | {' | '.join(SUPPORT)} |", "|---" * (len(SUPPORT) + 1) + "|"]
    lines += [f"| {title} | {' | '.join(cells)} |" for title, cells in rows]
    return _HEAD + "\n" + "\n".join(lines) + "\n" + _NOTES


def _datatypes(support: Support) -> str:
    missing = [datatype for datatype in DATATYPES if datatype not in support.datatypes]
    return f"all but {', '.join(missing)}" if missing else f"all: {', '.join(DATATYPES)}"


def _yes(value: bool) -> str:  # noqa: FBT001 - the cell's value
    return "yes" if value else "no"


if __name__ == "__main__":
    sys.stdout.write(page())
