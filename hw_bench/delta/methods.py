"""Tools that make patches: ours and the ones to compare with. Each makes in this process and applies in a fresh one."""

import io
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from agent.delta.make import make_patch
from agent.protocol.patches import PatchMethod

OURS = ("sub8", "sub32", "zst")
ZSTD = "zstd -19"
PATCH_FROM = "zstd --patch-from"
BSDIFF = "bsdiff4"
DETOOLS = "detools"
DETOOLS_CRLE = "detools, crle"
PEERS = (ZSTD, PATCH_FROM, BSDIFF, DETOOLS, DETOOLS_CRLE)

Maker = Callable[[bytes, bytes], bytes]


def _zstd(base: bytes, target: bytes) -> bytes:
    """The command itself, at its highest ordinary level."""
    del base
    return subprocess.run(["zstd", "-19", "-q", "-c"], input=target, capture_output=True, check=True).stdout


def _patch_from(base: bytes, target: bytes) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgeward-delta-") as folder:
        old, new = Path(folder) / "old", Path(folder) / "new"
        old.write_bytes(base)
        new.write_bytes(target)
        command = ["zstd", "-19", "-q", "-c", "--long=27", f"--patch-from={old}", str(new)]
        return subprocess.run(command, capture_output=True, check=True).stdout


def _bsdiff(base: bytes, target: bytes) -> bytes:
    import bsdiff4  # noqa: PLC0415 - of the bench alone

    return bytes(bsdiff4.diff(base, target))


def _detools(compression: str) -> Maker:
    def make(base: bytes, target: bytes) -> bytes:
        import detools  # noqa: PLC0415

        out = io.BytesIO()
        detools.create_patch(io.BytesIO(base), io.BytesIO(target), out, compression=compression)
        return out.getvalue()

    return make


def _ours(method: PatchMethod) -> Maker:
    return lambda base, target: make_patch(base, target, method)


MAKERS: dict[str, Maker] = {
    **{method: _ours(PatchMethod(method)) for method in OURS},
    ZSTD: _zstd,
    PATCH_FROM: _patch_from,
    BSDIFF: _bsdiff,
    DETOOLS: _detools("lzma"),
    DETOOLS_CRLE: _detools("crle"),
}
