"""Names of patches: targets beside the files of a release, each telling what it makes, and from what.

::

    <file>.from-<first 16 digits of the base's SHA-256>.sub8    needs that base: bytes subtracted
    <file>.from-<first 16 digits of the base's SHA-256>.sub32   the same on the planes of 32-bit words
    <file>.zst                                                  the whole file, compressed

The manifest does not name them. A file that it does name is that file, whatever its name looks like.
"""

import re
from enum import StrEnum
from typing import NamedTuple

BASE_DIGITS = 16
"""How much of the base's digest a name carries: enough to look for it; what is found is compared in full."""
MAX_FILENAME = 128


class PatchMethod(StrEnum):
    """How a patch makes its file."""

    SUB8 = "sub8"
    """From a base: what was copied from there, plus compressed differences byte by byte."""
    SUB32 = "sub32"
    """From a base: differences of little-endian 32-bit words, their four bytes apart."""
    ZSTD = "zst"
    """From nothing: the file compressed."""


class PatchName(NamedTuple):
    """What a patch's name says; no message of its own."""

    target: str
    """The file that it makes."""
    method: PatchMethod
    base: str | None
    """First digits of the base's SHA-256; None for :attr:`PatchMethod.ZSTD`, which needs none."""


_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Greedy on the target, so that the last mark decides.
_PATCH = re.compile(
    r"(?P<target>.+)(?:\.from-(?P<base>[0-9a-f]{16})\.(?P<method>sub8|sub32)|\.(?P<whole>zst))"
)


def patch_name(target: str, method: PatchMethod, base: str | None = None) -> str | None:
    """The name of the patch that makes the file ``target``, from the base of that SHA-256 where the method needs one.

    None where the name would be longer than a file's name may be: then there is no such patch.

    Raises:
        ValueError: a base without need, or none where one is needed.
    """
    if (base is None) is not (method is PatchMethod.ZSTD):
        raise ValueError(f"{method}: {'needs the digest of a base' if base is None else 'takes no base'}")
    name = f"{target}.{method}" if base is None else f"{target}.from-{base[:BASE_DIGITS]}.{method}"
    return name if len(name) <= MAX_FILENAME else None


def parse_patch_name(filename: str) -> PatchName | None:
    """What a file's name says, if it is a patch's; of a patch of a patch, the outer one."""
    if _FILENAME.fullmatch(filename) is None:
        return None
    found = _PATCH.fullmatch(filename)
    if found is None:
        return None
    method = PatchMethod.ZSTD if found["whole"] else PatchMethod(found["method"])
    return PatchName(target=found["target"], method=method, base=found["base"])
