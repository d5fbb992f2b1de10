"""Small, whole stand-ins for the ports of the service: state in memory, an executor that follows a script."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from agent.core.events import Event
from agent.core.model_state import ModelState
from agent.core.slots import InstalledRelease
from agent.protocol.state import Assignment, Measurement, Reason, VariantPolicy
from agent.protocol.telemetry import Body
from agent.protocol.telemetry import Event as TelemetryEvent
from agent.protocol.verification import ReleaseFile, VerifiedAssignment

DEADLINE = 5.0
REASON = Reason(code="some-reason", text="for some reason")


def digest(release: int, part: str) -> str:
    return f"{release}{ord(part)}".rjust(64, "0")


def installed(release: int, deployment: str | None = None, model: str = "digits") -> InstalledRelease:
    files = tuple(digest(release, part) for part in "mvgr")
    return InstalledRelease(
        deployment=deployment or f"d{release}",
        model=model,
        release=release,
        variant="onnx-int8",
        artifact=files[1],
        manifest=files[0],
        variant_policy=VariantPolicy.MOST_ACCURATE,
        files=files,
    )


def assigned(release: int, deployment: str | None = None, model: str = "digits") -> VerifiedAssignment:
    manifest = ReleaseFile(filename="manifest.json", sha256=digest(release, "m"), size=10)
    return VerifiedAssignment(
        model=model,
        release=release,
        assignment=Assignment(deployment=deployment or f"d{release}"),
        manifest=manifest,
        files=(manifest,),
    )


def measurement(release: int) -> Measurement:
    return Measurement(
        variant="onnx-int8",
        artifact=digest(release, "v"),
        size_bytes=10,
        p50_ms=0.5,
        p99_ms=1.0,
        peak_memory_mib=50.0,
        golden_max_error=0.0,
        golden_class_agreement=1.0,
        budget_p99_ms=50.0,
        budget_memory_mib=256.0,
    )


class Journal:
    """What happened, in order; a test waits for what it expects instead of sleeping."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._moved = asyncio.Event()

    def note(self, line: str) -> None:
        self.lines.append(line)
        self._moved.set()

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not happened():
                self._moved.clear()
                await self._moved.wait()

    async def until_noted(self, line: str) -> None:
        await self.until(lambda: line in self.lines)


class MemoryState:
    """A ``StatePort``: what was put, decodable as it would be after a restart."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.values: dict[str, bytes] = {}
        self.journal = journal or Journal()
        self.broken: Exception | None = None

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def put(self, key: str, value: bytes) -> None:
        await asyncio.sleep(0)  # a disk takes its time: whoever does not wait is found out
        if self.broken is not None:
            self.journal.note("put refused")
            raise self.broken
        self.values[key] = value
        if key.startswith("model/"):
            self.journal.note(f"put {self.model(key.removeprefix('model/')).phase}")

    def model(self, name: str) -> ModelState:
        return msgspec.json.decode(self.values[f"model/{name}"], type=ModelState)


class ScriptedExecutor:
    """An ``Executor``: notes each command, then answers from its script; with no answer left it waits."""

    def __init__(self, journal: Journal, script: dict[str, list[Event | Exception]]) -> None:
        self.journal = journal
        self.script = script
        self.commands: list[Any] = []
        self.linger = 0
        """Turns of the loop that a cancelled command takes to stop."""

    async def _do(self, name: str, command: Any) -> Any:
        self.commands.append(command)
        self.journal.note(name)
        answers = self.script.get(name, [])
        if not answers:
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(self.linger):
                    await asyncio.sleep(0)
                self.journal.note(f"{name} cancelled")
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def fetch(self, command: Any) -> Event:
        return await self._do("fetch", command)  # type: ignore[no-any-return] # the script's

    async def permit(self, command: Any) -> Event:
        return await self._do("permit", command)  # type: ignore[no-any-return] # the script's

    async def probe(self, command: Any) -> Event:
        return await self._do("probe", command)  # type: ignore[no-any-return] # the script's

    async def activate(self, command: Any) -> Event:
        return await self._do("activate", command)  # type: ignore[no-any-return] # the script's

    async def watch(self, command: Any) -> Event:
        return await self._do("watch", command)  # type: ignore[no-any-return] # the script's

    async def restore(self, command: Any) -> Event:
        return await self._do("restore", command)  # type: ignore[no-any-return] # the script's

    async def report(self, command: Any) -> Event:
        return await self._do("report", command)  # type: ignore[no-any-return] # the script's

    async def commit(self, command: Any) -> None:
        self.commands.append(command)
        self.journal.note("commit")

    async def discard(self, command: Any) -> None:
        self.commands.append(command)
        self.journal.note("discard")

    async def serve(self, command: Any) -> None:
        self.commands.append(command)
        self.journal.note("serve")


class ListRecorder:
    """A ``Recorder`` that keeps bodies in a list."""

    def __init__(self) -> None:
        self.bodies: list[Body] = []

    async def record(self, body: Body) -> None:
        self.bodies.append(body)

    async def record_once(self, event: TelemetryEvent) -> None:
        if event not in self.bodies:
            self.bodies.append(event)
