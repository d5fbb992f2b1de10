"""What was taken is checked again, what expires or was withdrawn is told once, and blocks installing in time."""

import pytest
from msgspec.structs import replace

from agent.core.trust_watch import DAY, TrustFacts
from agent.core.trusted_time import BUILD_TIME
from agent.protocol.state import ModelRelease, RoleExpiry
from agent.protocol.telemetry import Event
from agent.protocol.verification import VerifyResult
from agent.service import desired as desired_module
from agent.service.trust_watch import TrustWatch
from tests.unit.service.test_desired import GOOD, TRUST, Bench, keeping, refused

NOW = TRUST.hub_time
ONE = ModelRelease(model="digits", release=1)


def until(**days: float) -> tuple[RoleExpiry, ...]:
    return tuple(RoleExpiry(role=role, expires=NOW + left * DAY) for role, left in days.items())


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def record(self, body: Event) -> None:
        self.events.append(body)


class Watched:
    """A watch over facts that the test changes."""

    def __init__(self, facts: TrustFacts) -> None:
        self.facts = facts
        self.recorder = Recorder()
        self.changes = 0
        self.watch = TrustWatch(lambda: self.facts, self.recorder, changed=self._changed)  # type: ignore[arg-type]

    def _changed(self) -> None:
        self.changes += 1

    async def told(self) -> list[tuple[str, str]]:
        """Events of one more look."""
        before = len(self.recorder.events)
        await self.watch.look()
        return [(event.severity, event.kind) for event in self.recorder.events[before:]]


def facts(**days: float) -> TrustFacts:
    return TrustFacts(expiry=until(**days), system=NOW, hub=NOW, heard=NOW)


async def test_each_warning_is_one_event_a_level() -> None:
    watched = Watched(facts(digits=20))
    assert await watched.told() == []
    watched.facts = facts(digits=13.9)
    assert await watched.told() == [("warning", "role-expires")]
    watched.facts = facts(digits=13.1)
    assert await watched.told() == []
    watched.facts = facts(digits=2.9)
    assert await watched.told() == [("error", "role-expires")]
    watched.facts = facts(digits=-1)
    assert await watched.told() == [("error", "role-expired")]
    assert await watched.told() == []
    assert watched.changes == 3


async def test_a_role_that_was_renewed_is_warned_of_anew_the_next_time() -> None:
    watched = Watched(facts(digits=10))
    await watched.told()
    watched.facts = facts(digits=90)
    assert await watched.told() == []
    watched.facts = facts(digits=10)
    assert await watched.told() == [("warning", "role-expires")]


async def test_what_stands_is_reported_for_as_long_as_it_is_true() -> None:
    watched = Watched(TrustFacts(system=BUILD_TIME, hub=0.0, heard=None))
    assert watched.watch.report() is None
    watched.facts = replace(facts(digits=10), withdrawn=(ONE,))
    await watched.told()
    report = watched.watch.report()
    assert report is not None
    assert (report.hub_time, report.withdrawn, report.expiry) == (NOW, (ONE,), until(digits=10))
    assert [warning.code for warning in report.warnings] == ["release-withdrawn", "role-expires"]


# --- the keeper -------------------------------------------------------------------------------------------------------


def refusal_code(bench: Bench) -> str | None:
    return None if bench.keeper.refusal is None else bench.keeper.refusal.code


@pytest.fixture
def hourly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired_module, "CHECK_SECONDS", 0.001)


@pytest.mark.usefixtures("hourly")
async def test_what_was_taken_is_checked_again_and_a_withdrawal_is_seen() -> None:
    taken_back = replace(GOOD, withdrawn=(ONE,), expiry=until(digits=80))
    async with keeping(Bench(GOOD, GOOD, taken_back)) as bench:
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.facts().withdrawn == (ONE,))
        assert set(bench.directors) == {b"document"}
        assert len(bench.requests) >= 3


@pytest.mark.usefixtures("hourly")
async def test_renewing_without_a_network_is_nothing_to_tell() -> None:
    async with keeping(Bench(GOOD, refused("no-network"))) as bench:
        bench.take("document")
        await bench.journal.until(lambda: len(bench.requests) > 4)
        assert refusal_code(bench) is None
        assert bench.keeper.verified == GOOD
        bench.take("another")
        await bench.journal.until(lambda: bench.keeper.refusal is not None)
        assert refusal_code(bench) == "no-network"


async def test_the_verifier_is_told_what_is_installed() -> None:
    bench = Bench(GOOD)
    bench.keeper._installed = lambda: (ONE,)
    async with keeping(bench):
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.requests[0].installed == (ONE,)


async def test_what_was_verified_and_has_expired_since_blocks_its_model() -> None:
    """Nothing needs to arrive for that: time passes."""
    bench = Bench(replace(GOOD, expiry=until(root=300, timestamp=1, digits=0.5, faces=90)))
    clock = [NOW]
    bench.keeper._clock = lambda: clock[0]
    async with keeping(bench):
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.keeper.expired("digits") is None
        clock[0] = NOW + 0.6 * DAY
        reason = bench.keeper.expired("digits")
        assert reason is not None
        assert "the approval of digits expired" in reason.text
        assert bench.keeper.expired("faces") is None
        clock[0] = NOW + 1.1 * DAY
        assert bench.keeper.expired("faces") is not None
        assert bench.keeper.verified is not None, "what serves is not undone"


async def test_a_check_that_failed_on_the_way_forgets_no_role() -> None:
    partly = replace(refused("missing-metadata"), expiry=until(timestamp=2))
    async with keeping(Bench(replace(GOOD, expiry=until(timestamp=1, digits=10)), partly)) as bench:
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        bench.keeper.again()
        await bench.journal.until(lambda: bench.keeper.refusal is not None)
        assert bench.keeper.facts().expiry == until(timestamp=2, digits=10)


async def test_metadata_that_looks_expired_to_a_clock_that_is_ahead_says_so() -> None:
    bench = Bench(VerifyResult(refusal=refused("expired").refusal, hub_time=NOW))
    bench.keeper._clock = lambda: NOW + 400 * DAY
    async with keeping(bench):
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.refusal is not None)
        assert bench.keeper.refusal is not None
        assert "if the clock is wrong, set it and run `edgeward sync`" in bench.keeper.refusal.text


async def test_time_goes_on_for_a_device_whose_own_clock_is_dead() -> None:
    """Else a hub that is frozen would never look old to it."""
    bench = Bench(replace(GOOD, expiry=until(timestamp=1), hub_time=NOW))
    passed = [50.0]
    bench.keeper._clock = lambda: 0.0
    bench.keeper._monotonic = lambda: passed[0]
    async with keeping(bench):
        bench.take("document")
        await bench.journal.until(lambda: bench.keeper.verified is not None)
        assert bench.requests[0].now == NOW
        assert bench.keeper.expired("digits") is None
        passed[0] += 1.1 * DAY
        assert bench.keeper.expired("digits") is not None
        bench.keeper.again()
        await bench.journal.until(lambda: len(bench.requests) == 2)
        assert bench.requests[1].now == pytest.approx(NOW + 1.1 * DAY)
