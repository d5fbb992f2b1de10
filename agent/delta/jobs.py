"""``python -m agent.delta.jobs``: make patches in a process of their own, so that whoever wants them can end it.

Standard input holds a JSON array of :class:`Job`. A patch is there whole or not at all, whenever the process ends.
"""

import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.delta.errors import DeltaError
from agent.protocol.patches import PatchMethod

NICE = 10


class Job(Struct, frozen=True, kw_only=True):
    """One patch to make."""

    method: PatchMethod
    target: str
    """Path of the file."""
    base: str | None
    """Path of what it is made from; None for :attr:`PatchMethod.ZSTD`."""
    out: str
    """Path of the patch."""


def run(job: Job) -> None:
    """Make one patch. Raises NoPatchError, OSError."""
    target = Path(job.target).read_bytes()
    if job.base is None:
        from agent.delta.whole import compress_whole  # noqa: PLC0415 - without NumPy, which takes longer to load

        patch = compress_whole(target)
    else:
        from agent.delta.make import make_patch  # noqa: PLC0415

        patch = make_patch(Path(job.base).read_bytes(), target, job.method)
    unfinished = Path(f"{job.out}.unfinished")
    unfinished.write_bytes(patch)
    unfinished.rename(job.out)


def main() -> int:
    """Run all jobs; those that can't be done are named on standard error, and make the result 1."""
    os.nice(NICE)
    failed = 0
    for job in msgspec.json.decode(sys.stdin.buffer.read(), type=list[Job]):
        try:
            run(job)
        except (DeltaError, OSError, MemoryError) as error:
            sys.stderr.write(f"{job.target}, {job.method}: {error}\n")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
