"""Files that survive a power cut: write aside, fsync, rename, fsync the folder. The only place that does this."""

import os
import tempfile
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"
"""Of the hidden file that is written aside; :func:`sweep_temporary` removes what a crash left of them."""


def write_durable(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` at ``path``: after a power cut the old content or the new one is there, whole.

    Parent folders are created. When this returns, the new content is on the disk.

    Raises:
        OSError: it can't be written; the old content is untouched.
    """
    temporary = _write_aside(path, data, mode)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    fsync_folder(path.parent)


def create_durable(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """As :func:`write_durable`, but never over an existing file.

    Raises:
        FileExistsError: ``path`` exists; it is untouched.
        OSError: it can't be written.
    """
    temporary = _write_aside(path, data, mode)
    try:
        os.link(temporary, path)  # unlike rename, refuses to replace
    finally:
        temporary.unlink()
    fsync_folder(path.parent)


def _write_aside(path: Path, data: bytes, mode: int) -> Path:
    """Write and sync a hidden file beside ``path``; returns it."""
    make_folder(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def move_durable(source: Path, target: Path) -> None:
    """Rename a file whose bytes are still on their way to the disk; both folders are synced.

    Raises:
        OSError: it can't be renamed.
    """
    fsync_file(source)
    make_folder(target.parent)
    source.replace(target)
    fsync_folder(target.parent)
    if source.parent != target.parent:
        fsync_folder(source.parent)


def remove_durable(path: Path) -> bool:
    """Remove a file and sync its folder; returns whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    fsync_folder(path.parent)
    return True


def make_folder(path: Path) -> None:
    """Create a folder and its parents, each synced into its parent."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    fsync_folder(path.parent)


def fsync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    _fsync(path, os.O_RDONLY)


def fsync_folder(path: Path) -> None:
    """Wait until a folder's entries are on the disk."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporary(folder: Path) -> list[Path]:
    """Remove what interrupted writes left in ``folder`` (not below it); returns what was removed."""
    leftovers = sorted(folder.glob(f".*{TEMPORARY_SUFFIX}"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers
