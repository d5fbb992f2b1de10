"""A process's memory, measured from outside it. All figures are MiB; everything here is Linux's ``/proc``.

PSS (proportional set size) is what a process costs a device: its own pages, and its share of the shared ones. Reading it
walks the page tables (0.3-1 ms for a runner) where ``statm`` costs 10 µs, so a fast watch reads RSS, which is never
smaller, and PSS only where RSS has grown.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

MIB = 1024.0 * 1024.0

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FAST_SECONDS = 0.02
_SLOW_SECONDS = 1.0
_GROWTH_MIB = 0.5
"""How far RSS grows before a watch reads PSS again."""
_NEAR = 0.875
"""From this share of its limit on, a process is looked at often."""
_STIRRED_SECONDS = 1.5
"""A runner that answers requests says so each second; one that has just said so is looked at often until it may have again."""


class ProcessGoneError(Exception):
    """The process has ended."""


def pss_mib(pid: int) -> float:
    """Proportional set size now.

    Raises:
        ProcessGoneError: no such process, or a dead one that has not been reaped.
    """
    try:
        return float(psutil.Process(pid).memory_full_info().pss) / MIB
    except psutil.NoSuchProcess as error:
        raise ProcessGoneError(f"process {pid}") from error


def rss_mib(pid: int) -> float:
    """Resident set size now; raises like :func:`pss_mib`."""
    try:
        resident = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessGoneError(f"process {pid}") from error
    if resident == 0:
        raise ProcessGoneError(f"process {pid}")
    return resident * _PAGE / MIB


def status_mib(pid: int, field: str) -> float:
    """One ``Vm…`` field of ``/proc/<pid>/status``, for instance ``VmHWM`` (peak RSS) or ``VmData``; raises likewise."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessGoneError(f"process {pid}") from error
    for line in lines:
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024.0
    raise ProcessGoneError(f"process {pid}")  # a dead process has no Vm fields


def limit_data(pid: int, headroom_mib: float) -> None:
    """Let the process's writable private memory (``RLIMIT_DATA``) grow by at most ``headroom_mib`` from now on.

    Set after loading, never before: a limit set at the start breaks imports.

    Raises:
        ProcessGoneError: it has ended.
        PermissionError: it belongs to somebody else.
    """
    soft = int((status_mib(pid, "VmData") + headroom_mib) * MIB)
    try:
        psutil.Process(pid).rlimit(psutil.RLIMIT_DATA, (soft, soft))
    except psutil.NoSuchProcess as error:
        raise ProcessGoneError(f"process {pid}") from error
    except psutil.AccessDenied as error:
        raise PermissionError(f"process {pid}: {error}") from error


class MemoryWatch:
    """Keeps the peak PSS of one process, and tells when it is over its limit.

    A look every 20 ms costs 0.3-1 % of a core and lets a runaway overshoot by 2-20 MB, so it looks that often only

    - while somebody asks for it (:meth:`closely`): the probe, whose peak is judged;
    - for a moment after each :meth:`stir`: the runner is answering requests;
    - near the limit;

    and else once a second. ``bounded``: the kernel keeps a limit too (a cgroup's), so only the first of the three holds.
    """

    def __init__(
        self,
        pid: int,
        *,
        limit_mib: float | None = None,
        over: Callable[[float, float], None] | None = None,
        bounded: bool = False,
    ) -> None:
        self._pid = pid
        self._limit = limit_mib
        self._over = over
        self._patient = bounded or limit_mib is None
        self._close = asyncio.Event()
        self._closely = 0
        self._stirred_until = 0.0
        self._pss = 0.0
        self._rss_then = 0.0
        """RSS when :attr:`_pss` was read."""
        self._read_at = 0.0
        self._peak_pss = 0.0
        self._rss_at_peak = 0.0
        self._near = False

    async def run(self) -> None:
        """Watch until the process is gone or over its limit; then ``over(pss_mib, limit_mib)`` is called, once."""
        with contextlib.suppress(ProcessGoneError):
            while not self.look():
                await self._pause()

    @property
    def fast(self) -> bool:
        """Whether the next look comes soon."""
        if self._closely:
            return True
        return not self._patient and (self._near or time.monotonic() < self._stirred_until)

    def stir(self) -> None:
        """The process is at work: look often for a moment."""
        self._stirred_until = time.monotonic() + _STIRRED_SECONDS
        if not self._patient:
            self._close.set()

    async def _pause(self) -> None:
        if self.fast:
            await asyncio.sleep(_FAST_SECONDS)
            return
        self._close.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SLOW_SECONDS):
                await self._close.wait()

    @contextlib.contextmanager
    def closely(self) -> Iterator[None]:
        """Look often while the block runs."""
        self._closely += 1
        self._close.set()
        try:
            yield
        finally:
            self._closely -= 1

    def look(self) -> bool:
        """Measure once; returns whether it is over the limit, after having told so.

        Raises:
            ProcessGoneError: it has ended.
        """
        rss = rss_mib(self._pid)
        if self._worth_reading(rss):
            self._read(rss)
        at_most = self._pss + rss - self._rss_then
        self._near = self._limit is not None and at_most >= _NEAR * self._limit
        if self._limit is None or self._pss <= self._limit:
            return False
        if self._over is not None:
            self._over(self._pss, self._limit)
        return True

    def _worth_reading(self, rss: float) -> bool:
        """PSS moves with RSS, and without it only where another process takes or leaves shared pages: once a second will do."""
        if rss >= self._rss_at_peak + _GROWTH_MIB:
            return True
        if self._limit is None or rss <= self._limit:
            return False
        return rss > self._rss_then + _GROWTH_MIB or time.monotonic() - self._read_at >= _SLOW_SECONDS

    def _read(self, rss: float) -> None:
        self._pss, self._rss_then, self._read_at = pss_mib(self._pid), rss, time.monotonic()
        self._peak_pss = max(self._peak_pss, self._pss)
        self._rss_at_peak = max(self._rss_at_peak, rss)

    def peak_mib(self) -> float:
        """Peak PSS since the process started.

        What RSS reached between two looks is known from the kernel's high-water mark; that much more is counted as the
        process's own, so a short peak can be overstated by shared pages and is never missed.
        """
        try:
            self._peak_pss = max(self._peak_pss, pss_mib(self._pid))
            self._rss_at_peak = max(self._rss_at_peak, rss_mib(self._pid))
            unseen = max(0.0, status_mib(self._pid, "VmHWM") - self._rss_at_peak)
        except ProcessGoneError:
            unseen = 0.0
        return self._peak_pss + unseen
