"""Desired state: the newest one only, verified in full, tried again where that can help, serving meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from agent.core.trusted_time import BUILD_TIME, trusted_time
from agent.protocol.state import DesiredState, Reason
from agent.protocol.verification import FetchedMetadata, Mark, RefusedAssignment, VerifyRequest, VerifyResult
from agent.service import desired as desired_module
from agent.service.desired import TRANSIENT, DesiredKeeper
from agent.store.errors import DamagedError
from agent.store.trust_db import TrustState
from tests.unit.service.world import Journal, assigned

TRUST = TrustState(
    root=b"root",
    metadata={"timestamp.json": b"t"},
    marks=(Mark(role="snapshot", keys="", version=3),),
    hub_time=BUILD_TIME + 3e8,
)
GOOD = VerifyResult(assignments=(assigned(1),))


def refused(code: str) -> VerifyResult:
    return VerifyResult(refusal=Reason(code=code, text=f"because of {code}"), metadata={"a.json": b"{}"})


class Bench:
    """A keeper with a verifier that follows a script; the last answer repeats."""

    def __init__(self, *script: VerifyResult) -> None:
        self.journal = Journal()
        self.script = list(script)
        self.requests: list[VerifyRequest] = []
        self.applied: list[VerifyResult] = []
        self.counted: list[str] = []
        self.broken: Exception | None = None
        self.trust = TRUST
        self.gate = asyncio.Event()
        self.gate.set()
        self.keeper = DesiredKeeper(
            "camera-1",
            self,
            self.verify,
            self.fetch,
            changed=lambda: self.journal.note("changed"),
            count=self.counted.append,
        )

    async def load(self) -> TrustState:
        return self.trust

    async def apply(self, result: VerifyResult) -> None:
        if self.broken is not None:
            raise self.broken
        self.applied.append(result)

    async def fetch(self, name: str, maximum_bytes: int) -> FetchedMetadata:
        raise AssertionError(f"this verifier asks for nothing, not {name} ({maximum_bytes})")

    async def verify(self, request: VerifyRequest, _fetch: object) -> VerifyResult:
        self.requests.append(request)
        self.journal.note("verify")
        await self.gate.wait()
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def take(self, director: str, device: str = "camera-1") -> None:
        self.keeper.take(DesiredState(device=device, director=director))

    @property
    def directors(self) -> list[bytes | None]:
        return [request.director for request in self.requests]


@asynccontextmanager
async def keeping(bench: Bench) -> AsyncIterator[Bench]:
    task = asyncio.create_task(bench.keeper.run())
    try:
        yield bench
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired_module, "RETRY_SECONDS", (0.001, 0.002))
    monkeypatch.setattr(desired_module, "SLOW_RETRY_SECONDS", 0.001)


async def test_a_desired_state_is_verified_with_what_is_trusted_and_kept() -> None:
    async with keeping(Bench(GOOD)) as bench:
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.keeper.verified == GOOD
        assert bench.keeper.verified_at is not None
        assert bench.keeper.refusal is None
        request = bench.requests[0]
        assert (request.device, request.director) == ("camera-1", b"document")
        assert (request.root, request.metadata, request.marks) == (TRUST.root, TRUST.metadata, TRUST.marks)
        assert request.now >= TRUST.hub_time
        assert bench.applied == [GOOD]
        assert bench.journal.lines == ["changed", "verify", "changed"]


async def test_one_for_another_device_is_refused_and_changes_nothing_else() -> None:
    async with keeping(Bench(GOOD)) as bench:
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        bench.take("other", device="camera-2")
        assert bench.keeper.refusal is not None
        assert bench.keeper.refusal.code == "wrong-device"
        assert "camera-2" in bench.keeper.refusal.text
        assert bench.counted == ["desired-refused"]
        bench.keeper.again()
        await bench.journal.until(lambda: len(bench.requests) == 2)
        assert bench.directors == [b"document", b"document"]
        assert bench.keeper.verified == GOOD


async def test_a_refusal_keeps_what_was_verified_before_and_stores_what_it_verified() -> None:
    bad = refused("rollback-attack")
    async with keeping(Bench(GOOD, bad)) as bench:
        bench.take("first")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        bench.take("second")
        await bench.journal.until(lambda: bench.keeper.refusal is not None)
        assert bench.keeper.refusal == bad.refusal
        assert bench.keeper.verified == GOOD
        assert bench.applied == [GOOD, bad]
        assert bench.counted == ["desired-refused"]


@pytest.mark.usefixtures("fast")
async def test_without_a_network_it_is_tried_until_it_is_there() -> None:
    async with keeping(Bench(*[refused("no-network")] * 4, GOOD)) as bench:
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.directors == [b"document"] * 5
        assert bench.keeper.refusal is None
        assert bench.counted == [], "a network that is away is nobody's fault"


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("code", sorted(TRANSIENT))
async def test_a_refusal_that_may_be_over_by_itself_is_checked_again(code: str) -> None:
    async with keeping(Bench(refused(code), refused(code), GOOD)) as bench:
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.directors == [b"document"] * 3
        assert bench.keeper.refusal is None


def test_the_transient_codes_are_these() -> None:
    named = {"expired", "missing-metadata", "verifier-error", "verifier-died", "verifier-timeout"}
    assert named <= TRANSIENT
    assert not TRANSIENT & {"rollback-attack", "bad-signature", "wrong-device", "malformed", "mix-and-match"}


async def test_the_slow_check_is_slow() -> None:
    async with keeping(Bench(refused("expired"))) as bench:
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.refusal is not None)
        await asyncio.sleep(0.1)
        assert len(bench.requests) == 1
        bench.keeper.again()
        await bench.journal.until(lambda: len(bench.requests) == 2)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("code", ["rollback-attack", "bad-signature", "malformed", "mix-and-match"])
async def test_a_refusal_for_good_waits_for_another_document(code: str) -> None:
    async with keeping(Bench(refused(code), GOOD)) as bench:
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.refusal is not None)
        await asyncio.sleep(0.05)
        assert len(bench.requests) == 1
        bench.take("another")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.directors == [b"document", b"another"]


async def test_a_newer_one_does_not_wait_for_the_retry_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(desired_module, "RETRY_SECONDS", (1_000.0,))
    async with keeping(Bench(refused("no-network"), GOOD)) as bench:
        bench.take("old")
        await bench.journal.until(lambda: bench.keeper.refusal is not None)
        bench.take("new")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.directors == [b"old", b"new"]


async def test_of_those_that_arrive_during_a_check_only_the_newest_is_checked() -> None:
    async with keeping(Bench(GOOD)) as bench:
        bench.gate.clear()
        bench.take("one")
        await bench.journal.until_noted("verify")
        bench.take("two")
        bench.take("three")
        bench.gate.set()
        await bench.journal.until(lambda: len(bench.requests) == 2)
        assert bench.directors == [b"one", b"three"]


def remembering(bench: Bench) -> Bench:
    """As after a restart: a document was taken before it."""
    bench.trust = replace(TRUST, metadata={**TRUST.metadata, "director.json": b"before"})
    return bench


async def test_what_was_taken_before_a_restart_is_taken_again_without_a_network() -> None:
    bench = remembering(Bench(GOOD))
    bench.gate.clear()
    async with keeping(bench):
        await bench.journal.until_noted("verify")
        assert (bench.keeper.verified, bench.keeper.unverified) == (None, desired_module.NOT_LOOKED)
        bench.gate.set()
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.keeper.unverified is None
        assert bench.directors == [b"before"]


async def test_one_that_arrives_while_the_old_one_is_taken_again_is_not_lost() -> None:
    bench = remembering(Bench(GOOD))
    bench.gate.clear()
    async with keeping(bench):
        await bench.journal.until_noted("verify")
        bench.take("new")
        bench.gate.set()
        await bench.journal.until(lambda: len(bench.requests) == 2)
        assert bench.directors == [b"before", b"new"]


async def test_what_has_expired_over_a_restart_is_not_taken_again_and_says_why() -> None:
    async with keeping(remembering(Bench(refused("expired"), GOOD))) as bench:
        await bench.journal.until_noted("changed")
        assert bench.keeper.verified is None
        assert bench.keeper.unverified == Reason(code="expired", text="because of expired")
        bench.take("new")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.keeper.unverified is None


@pytest.mark.usefixtures("fast")
async def test_a_fault_of_this_device_at_the_start_is_tried_again() -> None:
    async with keeping(remembering(Bench(refused("verifier-died"), refused("verifier-died"), GOOD))) as bench:
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.directors == [b"before"] * 3


async def test_a_device_that_took_nothing_yet_waits_for_nothing() -> None:
    async with keeping(Bench(GOOD)) as bench:
        await bench.journal.until_noted("changed")
        assert bench.keeper.unverified is None
        assert bench.requests == []


async def test_a_flood_of_desired_states_is_checked_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired_module, "CHECKS_AT_ONCE", 2)
    monkeypatch.setattr(desired_module, "CHECK_PACE_SECONDS", 0.2)
    async with keeping(Bench(GOOD)) as bench:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while len(bench.requests) < 4:
            bench.take(f"document {loop.time()}")
            await asyncio.sleep(0.001)
        assert loop.time() - began >= 0.4 - 0.05


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), DamagedError("trust.db: damaged")])
async def test_what_cant_be_remembered_is_not_taken_until_it_can(error: Exception) -> None:
    bench = Bench(GOOD)
    bench.broken = error
    async with keeping(bench):
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.refusal is not None)
        assert bench.keeper.verified is None
        assert bench.keeper.refusal is not None
        assert bench.keeper.refusal.code == "trust-not-stored"
        assert str(error) in bench.keeper.refusal.text
        bench.broken = None
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.keeper.refusal is None


async def test_refused_releases_of_a_good_document_are_counted_by_code() -> None:
    one = RefusedAssignment(
        model="digits", release=9, deployment="d9", reason=Reason(code="not-approved", text="x")
    )
    async with keeping(Bench(VerifyResult(assignments=(assigned(1),), refused=(one,)))) as bench:
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.counted == ["refused-not-approved"]
        assert bench.keeper.refusal is None


async def test_nothing_is_checked_again_before_the_first_one() -> None:
    async with keeping(Bench(GOOD)) as bench:
        bench.keeper.again()
        await asyncio.sleep(0.02)
        assert bench.requests == []


@pytest.mark.parametrize(
    ("system", "hub", "expected"),
    [
        (0.0, 0.0, BUILD_TIME),
        (BUILD_TIME + 5, 0.0, BUILD_TIME + 5),
        (BUILD_TIME + 5, BUILD_TIME + 9, BUILD_TIME + 9),
        (BUILD_TIME - 5, BUILD_TIME - 3, BUILD_TIME),
    ],
)
def test_trusted_time_is_the_latest_that_is_known(system: float, hub: float, expected: float) -> None:
    assert trusted_time(system, hub) == expected
