"""The outbox' ledger adds up after anything that can happen, the agent's death at any point included; thinning loses no row."""

import asyncio
import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.core.sending import DAY, HOUR, LADDER, Spans, settled_before
from agent.protocol.codec import encode_msgpack
from agent.protocol.drift import DriftWindow, SignalCounts, VerdictLevel
from agent.protocol.limits import MAX_RECORD_BYTES
from agent.protocol.runner import WindowClosed
from agent.protocol.telemetry import Body, Event, Health, Severity, TelemetryAck, Window
from agent.store.database import Database
from agent.store.importance import URGENT, rank
from agent.store.outbox import Outbox
from agent.store.schema import migrate
from agent.store.writer import Writer
from tests.unit.store.bodies import HEALTH, window

BATCH = MAX_RECORD_BYTES + 2_000
LEVELS: tuple[VerdictLevel, ...] = ("ok", "insufficient data", "warning", "drift")
COARSE = LADDER[-1]


def rows_of(bodies: Iterable[Body]) -> dict[str, int]:
    """What the records count, by what must never change in sum."""
    sums = {"rows": 0, "missing": 0, "windows": 0, "samples": 0}
    for body in bodies:
        if isinstance(body, Window):
            counts = body.window.signals["brightness"]
            assert sum(counts.counts) + counts.missing == body.window.rows
            sums["rows"] += body.window.rows
            sums["missing"] += counts.missing
            sums["windows"] += body.window.merged
        elif isinstance(body, Health):
            sums["samples"] += body.merged
    return sums


@functools.cache
def fresh() -> Path:
    """A database as it is made: copied, because making it takes its time."""
    folder = Path(tempfile.mkdtemp(prefix="edgeward-ledger-"))
    atexit.register(shutil.rmtree, folder)
    return Path(migrate(folder).path)


class Ledger(RuleBasedStateMachine):
    """The hub is modelled by the first body that it was ever sent of each sequence; the device by its real database."""

    bound = 1_000_000

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="edgeward-ledger-")
        self.loop = asyncio.new_event_loop()
        self.now = 1_795_000_000.0
        self.recorded: dict[int, Body] = {}
        self.renewals = 0
        self.hub: dict[int, Body] = {}
        self.offered: set[int] = set()
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        shutil.copy(fresh(), self.folder.name)
        self.open()

    def open(self) -> None:
        self.writer = Writer()
        path = Path(self.folder.name) / "telemetry.db"
        self.database = self.loop.run_until_complete(Database.open(path, self.writer))
        self.outbox = Outbox(self.database, device="cam-1", maximum_bytes=self.bound, clock=lambda: self.now)

    def close(self) -> None:
        self.loop.run_until_complete(self.database.close())
        self.loop.run_until_complete(self.writer.close())

    def append(self, *bodies: Body | WindowClosed) -> None:
        before = self.pending()
        sequences = self.loop.run_until_complete(self.outbox.append(*bodies))
        first = len(self.recorded) + self.renewals + 1
        assert sequences == tuple(range(first, first + len(bodies)))
        for sequence, body in zip(sequences, bodies, strict=True):
            self.recorded[sequence] = Window(window=body.window) if isinstance(body, WindowClosed) else body
        self.check_what_went({**before, **{one: self.recorded[one] for one in sequences}})

    def check_what_went(self, before: dict[int, Body]) -> None:
        """What made room was less important than what stayed, or had been offered."""
        after = self.pending()
        gone = [before[one] for one in before.keys() - after.keys() - self.offered if self.fits(before[one])]
        left = [body for one, body in after.items() if one not in self.offered]
        alone = {rank(body) for body in gone if not isinstance(body, Window | Health)}
        assert not alone or not left or max(alone) <= min(map(rank, left))

    @staticmethod
    def fits(body: Body) -> bool:
        return len(encode_msgpack(body)) < MAX_RECORD_BYTES

    @rule(
        size=st.one_of(st.integers(0, 900), st.just(40_000)),
        severity=st.sampled_from(["info", "info", "error"]),
        many=st.integers(1, 3),
    )
    def events(self, size: int, severity: Severity, many: int) -> None:
        self.append(*[Event(time=0.0, severity=severity, kind="test", text="x" * size)] * many)

    @rule(cpu=st.integers(0, 99), many=st.integers(1, 4))
    def health(self, cpu: int, many: int) -> None:
        sample = msgspec.structs.replace(HEALTH, time=self.now, cpu_percent=float(cpu))
        self.append(*[sample] * many)

    @rule(
        counts=st.tuples(*[st.integers(0, 400)] * 3),
        missing=st.integers(0, 9),
        level=st.sampled_from(LEVELS),
        part=st.sampled_from([None, None, "shift=day"]),
        many=st.integers(1, 3),
    )
    def windows(
        self, counts: tuple[int, int, int], missing: int, level: VerdictLevel, part: str | None, many: int
    ) -> None:
        one: DriftWindow = msgspec.structs.replace(
            window(closed=self.now, level=level, slice=part),
            rows=sum(counts) + missing,
            signals={"brightness": SignalCounts(counts=counts, missing=missing)},
        )
        self.append(*[WindowClosed(window=one, drift_state=b"x")] * many)

    @rule(seconds=st.sampled_from([600.0, HOUR, 5 * HOUR, DAY, 8 * DAY, -HOUR]))
    def time_goes_on(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        urgent_only=st.booleans(),
        spans=st.sampled_from([None, *LADDER]),
        records=st.sampled_from([1, 3, 256]),
        arrives=st.booleans(),
    )
    def send(self, *, urgent_only: bool, spans: Spans | None, records: int, arrives: bool) -> None:
        waiting = self.pending()
        batch = self.loop.run_until_complete(
            self.outbox.next_batch(
                BATCH,
                maximum_records=records,
                urgent_only=urgent_only,
                settled_before=settled_before(spans, self.now),
            )
        )
        urgent = {one for one, body in waiting.items() if rank(body) in URGENT}
        if batch is None:
            assert not urgent, "what is urgent always goes"
            return
        assert len(encode_msgpack(batch)) <= BATCH
        sent = {record.sequence: record.body for record in batch.records}
        waiting |= self.renew(waiting, sent)
        self.offered |= sent.keys()
        assert len(sent) == len(batch.records) <= records
        ranks = [rank(record.body) for record in batch.records]
        assert ranks == sorted(ranks, reverse=True), "the most important first"
        assert urgent_only or spans is not None or max(map(rank, waiting.values())) == ranks[0]
        assert not urgent_only or set(ranks) <= set(URGENT)
        for sequence, body in sent.items():
            assert body == waiting[sequence]
            assert body == self.hub.get(sequence, body), "what was sent once never changes"
            assert sequence not in self.acknowledged | self.refused, "what the hub has is not sent again"
        if arrives:
            self.hub = {**sent, **self.hub}

    def renew(self, waiting: dict[int, Body], sent: dict[int, Body]) -> dict[int, Body]:
        """What waited for long goes under a new number; returns these."""
        fresh = sorted(sent.keys() - waiting.keys())
        gone = sorted(waiting.keys() - self.pending().keys())
        assert len(fresh) == len(gone)
        assert self.offered.isdisjoint(gone), "the hub may know it by its number"
        for new, old in zip(fresh, gone, strict=True):
            assert new > max(self.recorded)
            self.recorded[new] = self.recorded.pop(old)
            self.renewals += 1
        assert sorted(map(repr, (sent[one] for one in fresh))) == sorted(
            map(repr, (waiting[one] for one in gone))
        )
        return {one: sent[one] for one in fresh}

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        """The hub answers for some of what it was sent, perhaps again, perhaps refusing a part."""
        if not self.hub:
            return
        some = data.draw(st.sets(st.sampled_from(sorted(self.hub))))
        bad = data.draw(st.sets(st.sampled_from(sorted(some)))) if some else set()
        before = self.pending().keys()
        epoch = self.loop.run_until_complete(self.outbox.report()).epoch
        ack = TelemetryAck(epoch=epoch, sequences=tuple(some), refused={str(one): "no" for one in bad})
        self.loop.run_until_complete(self.outbox.acknowledge(ack))
        self.acknowledged |= (some - bad) & before
        self.refused |= bad & before
        assert self.pending().keys() == before - some

    @rule(spans=st.sampled_from(LADDER))
    def thin(self, spans: Spans) -> None:
        before = self.pending()
        gone = self.loop.run_until_complete(self.outbox.thin(spans))
        after = self.pending()
        assert len(before) - len(after) == gone
        assert rows_of(before.values()) == rows_of(after.values())
        for one in before.keys() - after.keys():
            assert one not in self.offered, "what the hub may have is not counted a second time"
            assert rank(before[one]) not in URGENT

    @rule()
    def crash(self) -> None:
        """The process ends without a word: what is in its memory is lost (the connection's close adds nothing to the disk)."""
        self.close()
        self.open()

    def pending(self) -> dict[int, Body]:
        rows = self.loop.run_until_complete(
            self.database.read(lambda c: c.execute("SELECT sequence, body FROM outbox").fetchall())
        )
        return {sequence: msgspec.json.decode(body, type=Body) for sequence, body in rows}

    @invariant()
    def adds_up(self) -> None:
        report = self.loop.run_until_complete(self.outbox.report())
        assert report.recorded == len(self.recorded) + self.renewals
        ended = report.acknowledged + sum(report.dropped.values()) + sum(report.merged.values())
        assert report.recorded == report.pending + ended
        assert report.acknowledged == len(self.acknowledged)
        assert report.dropped.get("refused", 0) == len(self.refused)
        oversized = [body for body in self.recorded.values() if not self.fits(body)]
        assert report.dropped.get("oversized", 0) == len(oversized)

    @invariant()
    def no_row_is_lost_or_counted_twice(self) -> None:
        """The hub and the device together have what was recorded, as long as nothing had to be dropped."""
        everything = rows_of([*{**self.pending(), **self.hub}.values()])
        recorded = rows_of(self.recorded.values())
        report = self.loop.run_until_complete(self.outbox.report())
        for kind, what in (("window", ("rows", "missing", "windows")), ("health", ("samples",))):
            for name in what:
                if report.dropped.get(kind, 0) == 0:
                    assert everything[name] == recorded[name], name
                else:
                    assert everything[name] <= recorded[name], name

    @invariant()
    def keeps_its_bound(self) -> None:
        sizes = self.loop.run_until_complete(
            self.database.read(
                lambda c: c.execute(
                    "SELECT coalesce(sum(length(body)), 0), coalesce(sum(size), 0), "
                    "coalesce((SELECT value FROM counters WHERE name = 'pending_bytes'), 0) FROM outbox"
                ).fetchone()
            )
        )
        assert sizes[0] == sizes[1] == sizes[2] <= self.bound

    def teardown(self) -> None:
        self.close()
        self.loop.close()
        self.folder.cleanup()


class TightLedger(Ledger):
    """There is never room for more than a few records."""

    bound = 5_000


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestTightLedger = TightLedger.TestCase
TestTightLedger.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
