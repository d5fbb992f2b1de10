"""A writer process is killed (SIGKILL) again and again: what it said was durable is there, and nothing is half."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.store.database import Database
from agent.store.mirrored import MirroredStore
from agent.store.outbox import Outbox
from agent.store.schema import migrate
from agent.store.writer import Writer

ROUNDS = 12

STATE = """
import sys
from pathlib import Path
from agent.store.mirrored import MirroredStore
store = MirroredStore(Path(sys.argv[1]))
number = int(store.get("number") or 0)
while True:
    number += 1
    data = str(number).encode()
    store.write({"number": data, "twin": data, f"old/{number - 1}": None, f"old/{number}": data * 50})
    print(number, flush=True)
"""

OUTBOX = """
import asyncio, sys
from pathlib import Path
from agent.protocol.telemetry import Event, TelemetryAck
from agent.store.database import Database
from agent.store.outbox import Outbox
from agent.store.writer import Writer

async def run():
    database = await Database.open(Path(sys.argv[1]), Writer())
    outbox = Outbox(database, device="cam-1", maximum_bytes=4000)
    while True:
        (sequence,) = await outbox.append(Event(time=0.0, severity="info", kind="test", text="x" * 100))
        print(sequence, flush=True)
        if sequence % 5 == 0:
            batch = await outbox.next_batch()
            await outbox.acknowledge(TelemetryAck(epoch=batch.epoch, sequences=(batch.records[0].sequence,)))

asyncio.run(run())
"""

DURABLE = """
import sys
from pathlib import Path
from agent.store.durable_file import write_durable
number = 0
while True:
    number += 1
    write_durable(Path(sys.argv[1]), str(number).encode().rjust(9, b"0") * 2000)
    print(number, flush=True)
"""


def run_and_kill(code: str, argument: Path, chance: random.Random) -> int:
    """Let the writer say a few numbers, kill it at a random moment after that; returns the last number it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(argument)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    with process:
        assert process.stdout is not None
        for _ in range(chance.randint(1, 25)):
            line = process.stdout.readline()
            assert line, "the writer ended by itself"
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines()
    return int(rest[-1] if rest else line)


@pytest.mark.parametrize("harm", ["none", "database", "mirror"])
def test_state_is_whole_after_every_kill(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "state.db"
    chance = random.Random(7)
    for _ in range(ROUNDS if harm == "none" else 4):
        said = run_and_kill(STATE, path, chance)
        if harm == "database":  # and then its disk block goes bad as well
            path.write_bytes(b"\0" * path.stat().st_size)
        elif harm == "mirror":
            path.with_name("state.db.mirror").unlink()
        with MirroredStore(path) as store:
            number = int(store.get("number") or b"0")
            values = store.values()
        assert number >= said
        assert values["twin"] == values["number"], "a transaction is whole"
        assert [key for key in values if key.startswith("old/")] == [f"old/{number}"]


async def test_outbox_adds_up_after_every_kill(tmp_path: Path) -> None:
    migrate(tmp_path)
    path = tmp_path / "telemetry.db"
    chance = random.Random(8)
    for _ in range(ROUNDS):
        said = run_and_kill(OUTBOX, path, chance)
        assert migrate(tmp_path).quarantined is None
        writer = Writer()
        database = await Database.open(path, writer)
        report = await Outbox(database, device="cam-1", maximum_bytes=4000).report()
        await database.close()
        await writer.close()
        assert report.recorded >= said, "what was said to be recorded is"
        assert report.recorded == report.acknowledged + report.pending + sum(report.dropped.values())


def test_a_durable_file_is_old_or_new_after_every_kill(tmp_path: Path) -> None:
    path = tmp_path / "file"
    chance = random.Random(9)
    for _ in range(ROUNDS):
        said = run_and_kill(DURABLE, path, chance)
        content = path.read_bytes()
        assert len(content) == 9 * 2000
        assert content == content[:9] * 2000, "never a mixture"
        assert int(content[:9]) >= said
