"""The outbox' ledger adds up after anything that can happen, the agent's death at any point included."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.protocol.codec import encode_json
from agent.protocol.limits import MAX_RECORD_BYTES
from agent.protocol.telemetry import Body, Event, Health, TelemetryAck, TelemetryBatch
from agent.store.database import Database
from agent.store.outbox import Outbox
from agent.store.schema import migrate
from agent.store.writer import Writer

BOUND = 3_000
BATCH = MAX_RECORD_BYTES + 2_000


class Ledger(RuleBasedStateMachine):
    """The hub is modelled by the set of sequences it has ever been given; the device by its real database."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="edgeward-ledger-")
        self.loop = asyncio.new_event_loop()
        self.recorded: dict[int, Body] = {}
        self.sent: set[int] = set()
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.batch: TelemetryBatch | None = None
        path = Path(self.folder.name)
        migrate(path)
        self.open()

    def open(self) -> None:
        self.writer = Writer()
        path = Path(self.folder.name) / "telemetry.db"
        self.database = self.loop.run_until_complete(Database.open(path, self.writer))
        self.outbox = Outbox(self.database, device="cam-1", maximum_bytes=BOUND)

    def close(self) -> None:
        self.loop.run_until_complete(self.database.close())
        self.loop.run_until_complete(self.writer.close())

    @rule(size=st.one_of(st.integers(0, 900), st.just(40_000)), kind=st.sampled_from(["health", "event"]))
    def append(self, size: int, kind: str) -> None:
        body: Body
        if kind == "health":
            body = Health(
                time=float(size),
                cpu_percent=0.0,
                memory_available_mib=0.0,
                disk_free_mib=0.0,
                temperature_c=None,
                thermal=None,
                load=0.5,
                supervisor_pss_mib=0.0,
            )
        else:
            body = Event(time=0.0, severity="info", kind="test", text="x" * size)
        sequence = self.loop.run_until_complete(self.outbox.append(body))
        assert sequence == len(self.recorded) + 1
        self.recorded[sequence] = body

    @rule()
    def send(self) -> None:
        self.batch = self.loop.run_until_complete(self.outbox.next_batch(BATCH))
        if self.batch is None:
            return
        assert len(encode_json(self.batch)) <= BATCH
        sequences = [record.sequence for record in self.batch.records]
        assert sequences == sorted(set(sequences))
        for record in self.batch.records:
            assert record.body == self.recorded[record.sequence], "what arrives is what was recorded"
            assert record.sequence not in self.acknowledged | self.refused, (
                "what the hub has is not sent again"
            )
        self.sent.update(sequences)

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        """The hub answers for some of what it was sent, perhaps again, perhaps refusing a part."""
        if not self.sent:
            return
        some = data.draw(st.sets(st.sampled_from(sorted(self.sent))))
        bad = data.draw(st.sets(st.sampled_from(sorted(some)))) if some else set()
        before = self.pending()
        epoch = self.loop.run_until_complete(self.outbox.report()).epoch
        ack = TelemetryAck(epoch=epoch, sequences=tuple(some), refused={str(one): "no" for one in bad})
        self.loop.run_until_complete(self.outbox.acknowledge(ack))
        self.acknowledged |= (some - bad) & before
        self.refused |= bad & before
        assert self.pending() == before - some

    @rule()
    def crash(self) -> None:
        """The process ends without a word: what is in its memory is lost (the connection's close adds nothing to the disk)."""
        self.close()
        self.open()
        migrate(Path(self.folder.name))

    def pending(self) -> set[int]:
        rows = self.loop.run_until_complete(
            self.database.read(lambda c: c.execute("SELECT sequence FROM outbox").fetchall())
        )
        return {sequence for (sequence,) in rows}

    @invariant()
    def adds_up(self) -> None:
        report = self.loop.run_until_complete(self.outbox.report())
        assert report.recorded == len(self.recorded)
        assert report.recorded == report.acknowledged + report.pending + sum(report.dropped.values())
        assert report.acknowledged == len(self.acknowledged)
        assert report.dropped.get("refused", 0) == len(self.refused)
        oversized = [body for body in self.recorded.values() if len(encode_json(body)) > MAX_RECORD_BYTES]
        assert report.dropped.get("oversized", 0) == len(oversized)

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
        assert sizes[0] == sizes[1] == sizes[2] <= BOUND

    def teardown(self) -> None:
        self.close()
        self.loop.close()
        self.folder.cleanup()


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
