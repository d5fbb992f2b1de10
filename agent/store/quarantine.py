"""Set a damaged database aside, whole, so that a person can look at it."""

from pathlib import Path

from agent.store.durable_file import fsync_folder

COMPANIONS = ("", "-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; a journal must never meet another database of the same name."""


def quarantine(path: Path) -> Path | None:
    """Rename a database and its companions to ``<name>.damaged…``; returns the new name, or None if nothing was there.

    Only the newest one is kept: a disk that damages a database again and again must not fill itself.
    """
    target = path.with_name(f"{path.name}.damaged")
    present = [suffix for suffix in COMPANIONS if path.with_name(path.name + suffix).exists()]
    if not present:
        return None
    for suffix in COMPANIONS:
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    for suffix in present:
        path.with_name(path.name + suffix).replace(target.with_name(target.name + suffix))
    fsync_folder(path.parent)
    return target
