"""Which release of each model was committed last, once more, in a file of its own.

``state.db`` and its mirror say it too. This file is written only when another release is committed, so it is not under way when
the other two are; it is read only where both of them are damaged, so that the device still serves.
"""

import contextlib
from pathlib import Path

from agent.store.durable_file import write_durable
from agent.store.sealed import read_sealed, seal

_MAGIC = b"edgeward-last-good-1\n"
_SUFFIX = ".release"


class LastGood:
    """One file a model in a folder. Everything here blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, bytes] = {}

    def note(self, model: str, release: bytes) -> None:
        """Keep what was committed; durable when this returns, and written only where it is another one.

        Raises:
            OSError: it can't be written; what was there stays.
        """
        path = self._folder / f"{model}{_SUFFIX}"
        if self._known.get(model) is None:
            self._known[model] = read_sealed(_MAGIC, path)[0] or b""
        if self._known[model] != release:
            write_durable(path, seal(_MAGIC, release), mode=0o600)
            self._known[model] = release

    def read(self) -> dict[str, bytes]:
        """What is kept of each model; a damaged file is left out."""
        found: dict[str, bytes] = {}
        with contextlib.suppress(OSError):
            for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
                body, _problem = read_sealed(_MAGIC, path)
                if body is not None:
                    found[path.name.removesuffix(_SUFFIX)] = body
        return found
