"""Cgroup v2: a memory limit that the kernel itself enforces, one child cgroup a runner.

Needs a subtree that belongs to this agent, as systemd gives it with ``Delegate=memory``. A cgroup whose controllers are
handed on to children may hold no processes itself, so the agent first moves into a leaf of its own::

    edgeward-agent.service/        memory.max of the whole service, kept by systemd
    ├── supervisor/                the agent, the verifier
    └── runner-digits-4711-1/      memory.max of one runner

All figures are MiB. Cgroup v1 is not used: there a limit on a subtree can't be delegated safely.
"""

import contextlib
import itertools
import logging
import os
import signal
import time
from pathlib import Path

from msgspec import Struct

MIB = 1024 * 1024

SLACK_MIB = 16.0
"""How far a cgroup's limit lies above its runner's budget.

The budget is judged in PSS. A cgroup also counts kernel memory (page tables, socket buffers) and the whole of every shared
page that its runner touched first; without room for these the kernel would throw out and read in again the very library
that runs.
"""

_log = logging.getLogger(__name__)

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_LEAF = "supervisor"
_PREFIX = "runner-"
_MARK = "user.delegate"
"""Extended attribute that systemd sets on what it delegates."""
_MOVING_ROUNDS = 16
_NUMBERS = itertools.count(1)
_DYING_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 0.01


class MemoryEvents(Struct, frozen=True, kw_only=True):
    """What ``memory.events`` has counted."""

    at_limit: int = 0
    """How often this cgroup needed more than its own limit allows and nothing could be thrown out (``oom``)."""
    killed: int = 0
    """Processes of it that the kernel killed for want of memory: its own, its service's or the device's (``oom_kill``)."""


class RunnerCgroup:
    """One runner's cgroup. Made by :meth:`Cgroup.child`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, pid: int) -> None:
        """Move a process in; what it has already taken stays counted where it was.

        Raises:
            OSError: it is gone, or the kernel refuses.
        """
        _write(self.folder / "cgroup.procs", str(pid))

    def events(self) -> MemoryEvents:
        """The counts now; zeros when the cgroup is gone."""
        try:
            words = dict(line.split() for line in (self.folder / "memory.events").read_text().splitlines())
        except OSError:
            return MemoryEvents()
        return MemoryEvents(at_limit=int(words.get("oom", 0)), killed=int(words.get("oom_kill", 0)))

    def remove(self) -> None:
        """End what is still in it, and remove it; what can't be removed yet is removed at the agent's next start."""
        try:
            _kill_all(self.folder)
            self.folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("a runner's cgroup stays", extra={"folder": str(self.folder), "error": str(error)})


class Cgroup:
    """The delegated subtree. Made by :meth:`delegated`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def delegated(cls, *, mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> "Cgroup | None":
        """Prepare this process's cgroup for children; None (and a log line that says why) where that can't be.

        Called once, at the agent's start. Moves every process of the cgroup into a leaf, and removes what the runners of an
        earlier start have left.
        """
        folder = own_folder(mount, membership)
        why = "there is no cgroup v2" if folder is None else _not_delegated(folder)
        if folder is None or why:
            _log.info("runners get no cgroup of their own: %s", why)
            return None
        group = cls(folder)
        try:
            group._prepare()
        except OSError as error:
            _log.warning("runners get no cgroup of their own: %s", error)
            return None
        return group

    def child(self, name: str, memory_mib: float) -> RunnerCgroup:
        """A new cgroup that may hold ``memory_mib`` and no swap; over it, everything in it is killed at once.

        Raises:
            OSError: the kernel refuses; nothing is left behind.
        """
        folder = self.folder / f"{_PREFIX}{name}-{os.getpid()}-{next(_NUMBERS)}"
        folder.mkdir()
        made = RunnerCgroup(folder)
        try:
            _write(folder / "memory.max", str(int(memory_mib * MIB)))
            # A kernel without swap accounting lacks the one, one before 4.19 the other.
            for file, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
                if (folder / file).exists():
                    _write(folder / file, value)
        except OSError:
            made.remove()
            raise
        return made

    def _prepare(self) -> None:
        leaf = self.folder / _LEAF
        leaf.mkdir(exist_ok=True)
        _move_all(self.folder, leaf)
        _write(self.folder / "cgroup.subtree_control", "+memory")
        for left in sorted(self.folder.glob(f"{_PREFIX}*")):
            _kill_all(left)
            _wait_until_empty(left)
            RunnerCgroup(left).remove()


def own_folder(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> Path | None:
    """The folder of the cgroup that this process started in; None without cgroup v2.

    An agent that was started again inside its own leaf still means the service's cgroup.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if path is None or not (mount / "cgroup.controllers").exists():
        return None
    folder = mount / path.lstrip("/")
    return folder.parent if folder.name == _LEAF else folder


def room_mib(folder: Path | None, mount: Path = _MOUNT) -> float | None:
    """How much more the processes of ``folder`` may take before a limit of it or of a parent stops them.

    File pages that the kernel can drop without writing count as room. None where nothing limits them.
    """
    rooms = []
    while folder is not None and folder != mount and mount in folder.parents:
        room = _room(folder)
        if room is not None:
            rooms.append(room)
        folder = folder.parent
    return min(rooms, default=None)


def _room(folder: Path) -> float | None:
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    droppable = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(0, int(limit) - used + droppable) / MIB


def _not_delegated(folder: Path) -> str:
    """Why ``folder`` is not this agent's to change; "" if it is."""
    try:
        mine = folder.stat().st_uid == os.geteuid() != 0
        controllers = (folder / "cgroup.controllers").read_text().split()
    except OSError as error:
        return str(error)
    if not mine and not _marked(folder):
        return f"{folder} was not delegated to this user (systemd: Delegate=memory)"
    if "memory" not in controllers:
        return f"{folder} has no memory controller; it has: {' '.join(controllers) or 'none'}"
    if not os.access(folder / "cgroup.procs", os.W_OK):
        return f"{folder} can't be written to"
    return ""


def _marked(folder: Path) -> bool:
    """Root owns every cgroup; only the service manager's mark tells which it may divide."""
    try:
        return os.getxattr(folder, _MARK) == b"1"
    except OSError:
        return False


def _move_all(source: Path, leaf: Path) -> None:
    """Move until none is left: while it reads, a process may start another one."""
    for _ in range(_MOVING_ROUNDS):
        pids = (source / "cgroup.procs").read_text().split()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                _write(leaf / "cgroup.procs", pid)


def _kill_all(folder: Path) -> None:
    for pid in (folder / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _wait_until_empty(folder: Path) -> None:
    """Killed processes take a moment to be gone, and until then their cgroup can't be removed."""
    deadline = time.monotonic() + _DYING_SECONDS
    while "populated 1" in (folder / "cgroup.events").read_text() and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_SECONDS)


def _write(path: Path, text: str) -> None:
    """One write(2): a cgroup file takes a value as a whole, and must never be created where it is missing."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
