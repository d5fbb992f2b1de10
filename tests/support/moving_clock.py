"""A wall clock that is set while its processes run: libfaketime (Debian package ``faketime``), monotonic time left alone."""

from pathlib import Path

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


class MovingClock:
    """The clock of a process that is started with :attr:`environment`, and of its children."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.offset = 0
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        assert LIBRARY is not None
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset: int) -> None:
        """From now on it shows the true time plus ``offset`` seconds."""
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{offset:+d}\n")
        draft.replace(self._file)
        self.offset = offset
