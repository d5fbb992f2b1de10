"""A whole file, compressed: one ordinary zstd frame that a device reads within its window."""

import zstandard

from agent.delta.format import WINDOW_LOG

LEVEL = 19
_SMALLEST_WINDOW_LOG = 10
_LONGEST_MIN_MATCH = 7


def compress_whole(data: bytes) -> bytes:
    """Any zstd tool reads it."""
    return compressor(zstandard.FORMAT_ZSTD1, len(data), content_size=True).compress(data)


def compressor(form: int, size: int, *, content_size: bool, level: int = LEVEL) -> zstandard.ZstdCompressor:
    """For ``size`` bytes, within the window of a device. At level 1 next to no matches are sought, and codes alone are left."""
    least = {"min_match": _LONGEST_MIN_MATCH} if level == 1 else {}
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=size,
        format=form,
        window_log=min(WINDOW_LOG, max(_SMALLEST_WINDOW_LOG, (size - 1).bit_length())),
        write_content_size=content_size,
        write_checksum=False,
        **least,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)
