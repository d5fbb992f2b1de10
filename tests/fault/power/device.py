"""A device whose power is cut: forked, traced, killed at one call, started again, and looked at."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import msgspec

from agent.core.model_state import ModelState
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.state import Assignment, Phase
from agent.protocol.verification import ReleaseFile, VerifiedAssignment
from agent.store.artifacts import ArtifactStore
from agent.store.mirrored import MirroredStore
from agent.store.schema import migrate
from agent.store.trust_db import TrustDatabase
from tests.acceptance.processes import wait_for
from tests.fault.attacks.releases import content, reference_to
from tests.fault.power.update import HUB_TIME, MODEL, Order, update

STRACE = shutil.which("strace")
SECONDS = 30.0
ROOT = b"root of trust"
DECIDING = {"fsync", "fdatasync", "rename", "unlink"}


class Call(msgspec.Struct, frozen=True):
    """One call that changes the disk, or waits for it."""

    name: str
    number: int
    """The how many-th of its name."""
    where: str
    """Its arguments' paths, with what differs from run to run left out."""
    state: int
    """How many states of the update had been persisted by then."""


def make_releases(folder: Path) -> None:
    """Releases 1 and 2 as :class:`tests.fault.power.update.Order` wants them."""
    for release in (1, 2):
        files = content(MODEL, release)
        for data in files.values():
            (folder / reference_to("", data).sha256).write_bytes(data)
        refs = [reference_to(name, data) for name, data in files.items()]
        signed = {
            ref.filename: ReleaseFile(filename=ref.filename, sha256=ref.sha256, size=ref.size) for ref in refs
        }
        assignment = VerifiedAssignment(
            model=MODEL,
            release=release,
            assignment=Assignment(deployment=f"d-{release}"),
            manifest=signed[MANIFEST_FILENAME],
            files=tuple(signed.values()),
        )
        (folder / f"{release}.json").write_bytes(msgspec.json.encode(assignment))


def make_state(folder: Path, releases: Path) -> None:
    """A device that has committed release 1."""
    with contextlib.closing(TrustDatabase(folder / "trust.db")) as trust:
        trust.initialise(ROOT)
    migrate(folder)
    state = go_on(folder, releases, release=1)
    assert state.phase is Phase.COMMITTED


def go_on(folder: Path, releases: Path, *, release: int = 2) -> ModelState:
    """What the next start of the device makes of what it finds; as the daemon does, it migrates first."""
    outcome = migrate(folder)
    assert outcome.quarantined is None, outcome
    order = Order(folder=str(folder), releases=str(releases), release=release)
    return asyncio.run(asyncio.wait_for(update(order), SECONDS))


def examine(folder: Path, state: ModelState) -> Phase:
    """Whatever happened to it, the device ended its update, whole; returns how."""
    deployment, active = state.deployment, state.slots.active
    assert deployment is not None
    assert active is not None
    assert deployment.deployment == "d-2"
    assert not deployment.report_pending
    assert state.slots.candidate is None
    if deployment.phase is Phase.COMMITTED:
        assert (active.release, state.slots.floor) == (2, 2)
        assert state.slots.previous is not None
    else:
        assert deployment.phase in {Phase.ROLLED_BACK, Phase.REFUSED}
        assert deployment.reason is not None
        assert (active.release, state.slots.floor) == (1, 1)
    _examine_artifacts(folder, state)
    _examine_trust(folder)
    _examine_telemetry(folder, deployment.phase)
    with MirroredStore(folder / "state.db") as store:
        assert store.restored is None, store.restored
        assert msgspec.json.decode(store.values()[f"model/{MODEL}"], type=ModelState) == state
    return deployment.phase


def _examine_artifacts(folder: Path, state: ModelState) -> None:
    artifacts = ArtifactStore(folder / "artifacts", quota_bytes=2**30)
    for release in (state.slots.active, state.slots.previous):
        assert release is None or all(artifacts.verify(digest) for digest in release.files)
    for digest in artifacts.remove_unreferenced(state.slots.referenced()):
        # A collection that was cut leaves work to the next one, never more than what it was told to take.
        assert digest not in state.slots.referenced()
    assert artifacts.sweep() == []


def _examine_trust(folder: Path) -> None:
    with contextlib.closing(TrustDatabase(folder / "trust.db")) as trust:
        assert trust.restored is None, trust.restored
        found = trust.load()
    assert found.root == ROOT
    (mark,) = found.marks
    assert found.hub_time == HUB_TIME + mark.version
    for name in ("timestamp.json", "snapshot.json"):
        assert found.metadata[name] == f"{name} {mark.version}".encode() * 50, (
            "all of one version or of the other"
        )


def _examine_telemetry(folder: Path, phase: Phase) -> None:
    with closing(sqlite3.connect(folder / "telemetry.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT text FROM events WHERE kind = 'deployment-outcome' AND deployment = 'd-2'"
        assert database.execute(query).fetchall() == [(f"release 2 {phase.value}",)], "exactly one outcome"
        bodies = [json.loads(body) for (body,) in database.execute("SELECT body FROM outbox")]
        (recorded,) = database.execute("SELECT recorded - pending - dropped FROM outbox_ledger").fetchone()
    outcomes = [
        body for body in bodies if body.get("deployment") == "d-2" and body["kind"] == "deployment-outcome"
    ]
    assert len(outcomes) == 1
    assert recorded == 0, "every record is accounted for"


class Forge:
    """Forks devices, one at a time."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fault.power.update"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(SECONDS)
        self._server.stdout.close()

    def fork(self, order: Order) -> int:
        """A device that waits for :meth:`let_go`; returns its process id."""
        assert self._server.stdin is not None
        self._server.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self._server.stdin.flush()
        return int(self.hear()["pid"])

    def let_go(self, pid: int) -> None:
        os.kill(pid, signal.SIGUSR1)

    def hear(self) -> dict[str, Any]:
        """The next thing that a device, or the forge of it, says."""
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the forge ended"
        said: dict[str, Any] = json.loads(line)
        return said

    def run(self, order: Order) -> int:
        """A device to its end; returns its exit code, minus the signal that ended it."""
        self.let_go(self.fork(order))
        return int(self.hear()["ended"])

    def run_traced(self, order: Order, *options: str, log: Path, patience: float | None = None) -> int:
        """As :meth:`run`, under strace; with ``patience`` (seconds) a device that is not done by then is killed."""
        pid = self.fork(order)
        with traced(pid, "-o", str(log), *options) as tracer:
            self.let_go(pid)
            if patience is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    tracer.wait(patience)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return int(self.hear()["ended"])

    def run_until(self, order: Order, call: Call, *, log: Path) -> int:
        """A device that has made ``call`` and stands still there; returns its process id. :meth:`bury` it."""
        pid = self.fork(order)
        inject = f"inject={call.name}:signal=STOP:when={call.number}"
        with traced(pid, "-o", str(log), "-e", f"trace={call.name}", "-e", inject) as tracer:
            self.let_go(pid)
            wait_for(
                f"the device to make {call}",
                lambda: "stopped by SIGSTOP" in log.read_text(),
                seconds=SECONDS,
                every=0.001,
            )
            tracer.kill()
        return pid

    def bury(self, pid: int) -> None:
        """Kill a device that stands still."""
        os.kill(pid, signal.SIGKILL)
        while "ended" not in self.hear():
            pass


@contextlib.contextmanager
def traced(pid: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """strace, attached to a process and its threads."""
    assert STRACE is not None
    argv = [STRACE, "-f", "-qq", "-y", "-p", str(pid), *options]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as tracer:
        status = Path(f"/proc/{pid}/status")
        wait_for(
            "strace to attach",
            lambda: tracer.poll() is not None or "TracerPid:\t0" not in status.read_text(),
            seconds=SECONDS,
            every=0.001,
        )
        try:
            yield tracer
        except BaseException:
            tracer.kill()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise
        try:
            _, said = tracer.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            tracer.kill()
            raise
    assert "attach" not in said, said


_LINE = re.compile(r"^(\d+) +(\w+)\((.*)")
_PATH = re.compile(r'"([^"]*)"|<(/[^>]*)>')
_RANDOM = re.compile(r"(?<=\.)[a-z0-9_]{8}(?=\.tmp$)|[0-9a-f]{64}|(?<=sha256/)[0-9a-f]{2}")


def recorded_calls(log: Path, folder: Path) -> list[Call]:
    """What a trace says of the files below ``folder``, in order.

    Every call of one name must be of one thread: an injection counts the calls of each thread apart.
    """
    counts: Counter[str] = Counter()
    threads: dict[str, set[str]] = {}
    calls: list[Call] = []
    state = 0
    for line in log.read_text().splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        thread, name, arguments = found.groups()
        counts[name] += 1
        threads.setdefault(name, set()).add(thread)
        paths = [one or two for one, two in _PATH.findall(arguments)]
        ours = [path.removeprefix(str(folder)) for path in paths if path.startswith(str(folder))]
        if ours:
            calls.append(Call(name, counts[name], " ".join(_RANDOM.sub("*", path) for path in ours), state))
            state += name == "rename" and ours[-1] == "/state.db.mirror"
    assert all(len(those) == 1 for those in threads.values()), threads
    return calls


def one_of_each_place(calls: list[Call]) -> list[Call]:
    """Of each kind of call at each place the first; of those that decide what a power cut leaves, the first in each state."""
    seen: set[tuple[object, ...]] = set()
    kept: list[Call] = []
    for call in calls:
        key = (call.name, call.where, call.state if call.name in DECIDING else None)
        if key not in seen:
            seen.add(key)
            kept.append(call)
    return kept


def fresh_copies(template: Path, folder: Path) -> Iterator[Path]:
    """Copies of a state, each the only one there."""
    for number in itertools.count():
        copy = folder / f"state-{number}"
        shutil.copytree(template, copy)
        yield copy
        shutil.rmtree(copy)
