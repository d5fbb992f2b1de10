"""A technician's tools read ``telemetry.db`` while the agent runs, and disturb nobody."""

import json
import re
import shlex
import sqlite3
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.protocol.control import ControlRequest
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.store.conftest import ACTIVE, serves

PAGE = Path(__file__).parents[3] / "docs" / "telemetry.md"
PLACE = "/var/lib/edgeward/telemetry.db"


def commands() -> list[list[str]]:
    """What the page tells a technician to run."""
    block = re.search(r"```sh\n(sqlite-utils .*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert block is not None
    return [shlex.split(line) for line in block[1].splitlines()]


def run(command: list[str], database: Path) -> list[dict[str, Any]]:
    tool = Path(sysconfig.get_path("scripts")) / command[0]
    argv = [str(tool), *(str(database) if part == PLACE else part for part in command[1:])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, (argv, done.stderr)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_each_command_of_the_page_answers_while_the_agent_records(device: AttackedDevice) -> None:
    database = device.config.state / "telemetry.db"
    device.start()
    serves(device, ACTIVE)
    with closing(sqlite3.connect(database)) as reader:
        reader.execute("BEGIN")  # somebody whose page stays open all the time
        before = reader.execute("SELECT count(*) FROM events").fetchone()[0]
        device.ask(ControlRequest(method="hold", reason="looking at it"))
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda command: run(command, database), commands()))
        device.ask(ControlRequest(method="resume"))
        assert reader.execute("SELECT count(*) FROM events").fetchone()[0] == before, (
            "a reader sees one moment"
        )
    assert len(answers) == len(commands()) >= 8
    kinds = ["sqlite-utils", "query", PLACE, "SELECT kind FROM events_readable LIMIT 9"]
    assert {"hold", "resume"} <= {row["kind"] for row in run(kinds, database)}

    def accounted() -> bool:
        (ledger,) = run(["sqlite-utils", "rows", PLACE, "outbox_ledger"], database)
        ended = ledger["acknowledged"] + ledger["dropped"] + ledger["merged"]
        assert ledger["recorded"] == ended + ledger["pending"]
        return bool(ledger["pending"] == 0 and ledger["recorded"] > 5)

    wait_for("all to be acknowledged", accounted, seconds=SECONDS)
    assert "telemetry-not-recorded" not in device.status().state.errors
