"""``python -m hw_bench.delta.child METHOD BASE PATCH OUT SIZE``: apply one patch in a fresh process and tell what it took.

The memory is the peak of resident memory (``VmHWM``, set back before) beyond what the process had with its library
loaded and nothing read yet.
"""

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

KIB = 1024
WINDOW_LOG, PATCH_WINDOW_LOG = 23, 27
"""What the command allows by itself at level 19, and with ``--long=27``."""


class Applied(Struct, frozen=True, kw_only=True):
    """What applying took."""

    seconds: float
    beyond_bytes: int
    """Peak resident memory beyond the baseline."""


Apply = Callable[[Path, Path, Path, int], None]


def _ours(method: str) -> Apply:
    from agent.delta.apply import apply_patch, file_reader  # noqa: PLC0415 - one library a process
    from agent.protocol.patches import PatchMethod  # noqa: PLC0415

    def run(base: Path, patch: Path, out: Path, size: int) -> None:
        with base.open("rb") as old, patch.open("rb") as source, out.open("wb") as target:
            for piece in apply_patch(source, file_reader(old), PatchMethod(method), size=size):
                target.write(piece)

    return run


def _bsdiff() -> Apply:
    import bsdiff4  # noqa: PLC0415

    return lambda base, patch, out, _size: bsdiff4.file_patch(str(base), str(out), str(patch))


def _detools() -> Apply:
    import detools  # noqa: PLC0415

    return lambda base, patch, out, _size: detools.apply_patch_filenames(str(base), str(patch), str(out))


def _zstd(window_log: int) -> Apply:
    """As the command does it, which can't be looked into: the base, whole, as the prefix (``--patch-from``)."""
    import zstandard  # noqa: PLC0415

    def run(base: Path, patch: Path, out: Path, _size: int) -> None:
        prefix = None
        if window_log == PATCH_WINDOW_LOG:
            prefix = zstandard.ZstdCompressionDict(
                base.read_bytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT
            )
        decompressor = zstandard.ZstdDecompressor(dict_data=prefix, max_window_size=1 << window_log)
        with patch.open("rb") as source, out.open("wb") as target:
            decompressor.copy_stream(source, target)

    return run


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * KIB
    raise LookupError(field)


def main(arguments: list[str]) -> None:
    """Write :class:`Applied` to standard output."""
    method, base, patch, out, size = arguments
    makers: dict[str, Callable[[], Apply]] = {
        "bsdiff4": _bsdiff,
        "detools": _detools,
        "zstd": lambda: _zstd(WINDOW_LOG),
        "patch-from": lambda: _zstd(PATCH_WINDOW_LOG),
    }
    apply = makers[method]() if method in makers else _ours(method)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, began = _status("VmRSS"), time.perf_counter()
    apply(Path(base), Path(patch), Path(out), int(size))
    seconds = time.perf_counter() - began
    applied = Applied(seconds=seconds, beyond_bytes=max(0, _status("VmHWM") - before))
    sys.stdout.buffer.write(msgspec.json.encode(applied))


if __name__ == "__main__":
    main(sys.argv[1:])
