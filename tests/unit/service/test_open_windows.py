import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from agent.protocol.runner import WindowClosed
from agent.service.open_windows import OpenWindows
from agent.store.open_windows import OpenKey, open_key
from tests.unit.store.bodies import closed, window

SO_FAR = closed(replace(window(), incomplete=True, rows=120))


class Disk:
    """Takes what is written, or refuses it."""

    def __init__(self) -> None:
        self.writes: list[list[int]] = []
        self.gone: list[OpenKey] = []
        self.full = False
        self.refusing: Callable[[], None] = lambda: None

    async def keep(self, so_far: Iterable[WindowClosed], gone: Iterable[OpenKey] = ()) -> None:
        if self.full:
            self.refusing()
            raise sqlite3.OperationalError("database or disk is full")
        self.gone += gone
        self.writes.append([each.window.rows for each in so_far])


async def after(windows: OpenWindows, seconds: float = 0.05) -> None:
    running = asyncio.create_task(windows.run())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.wait((running,))


async def test_only_what_has_changed_and_is_open_is_written() -> None:
    disk = Disk()
    windows = OpenWindows(disk, 0.01, lambda _: None)
    windows.seen(SO_FAR)
    windows.seen(closed(replace(SO_FAR.window, rows=130)))
    windows.seen(closed(replace(SO_FAR.window, slice="site=north", rows=7)))
    windows.closed(replace(SO_FAR.window, slice="site=north"))
    await after(windows)
    assert disk.writes == [[130]]


async def test_a_disk_that_refuses_is_counted_and_asked_again() -> None:
    disk, counted = Disk(), Counter[str]()
    windows = OpenWindows(disk, 0.01, lambda what: counted.update([what]))
    disk.full = True
    windows.seen(SO_FAR)
    windows.seen(closed(replace(SO_FAR.window, slice="site=north", rows=7)))
    await after(windows)
    disk.full = False
    windows.closed(replace(SO_FAR.window, slice="site=north"))
    await after(windows)  # nothing has come meanwhile, so nobody tells of it again
    assert disk.writes == [[120]]
    assert counted["open-windows-not-written"] >= 1


async def test_a_window_that_is_closed_while_it_can_not_be_written_stays_closed() -> None:
    disk = Disk()
    windows = OpenWindows(disk, 0.01, lambda _: None)
    disk.refusing = lambda: windows.closed(SO_FAR.window)
    windows.seen(SO_FAR)
    disk.full = True
    await after(windows)
    disk.full = False
    await after(windows)
    assert disk.writes == []


async def test_what_was_written_of_a_window_before_the_clock_was_put_back_goes() -> None:
    disk = Disk()
    windows = OpenWindows(disk, 0.01, lambda _: None)
    windows.seen(SO_FAR)
    await after(windows)
    earlier = replace(SO_FAR.window, opened=0.5, rows=130)
    windows.seen(closed(earlier))
    await after(windows)
    assert disk.gone == [open_key(SO_FAR.window)]
    windows.closed(replace(earlier, opened=0.25))
    windows.seen(closed(replace(earlier, opened=0.75, rows=1)))
    await after(windows)
    assert disk.gone == [open_key(SO_FAR.window), open_key(earlier)]
    assert disk.writes == [[120], [130], [1]]


async def test_what_has_no_more_rows_is_not_written_again() -> None:
    disk = Disk()
    windows = OpenWindows(disk, 0.01, lambda _: None)
    for _ in range(2):
        windows.seen(SO_FAR)
        await after(windows)
    windows.closed(SO_FAR.window)
    windows.seen(SO_FAR)  # a new one that looks as the one before did
    await after(windows)
    assert disk.writes == [[120], [120]]
