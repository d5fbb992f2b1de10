"""A real agent whose month is spent: it says so, sends nothing that is not urgent, and loses nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.protocol.control import ControlRequest, DataResult
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.store.conftest import ACTIVE, serves


@pytest.fixture
def poor(device: AttackedDevice) -> Iterator[AttackedDevice]:
    """The device with a budget that its first message spends."""
    path: Path = device.folder / "agent.toml"
    text = path.read_text()
    path.write_text(text.replace("[telemetry]\n", "[telemetry]\nmonthly_bytes = 1\n"))
    yield device
    device.stop()
    path.write_text(text)


def test_over_its_budget_a_device_keeps_what_is_not_urgent_and_says_so(poor: AttackedDevice) -> None:
    poor.start()
    serves(poor, ACTIVE)

    def short() -> bool:
        budget = poor.status().state.outbox.budget
        return budget is not None and budget.thinning == "urgent-only" and budget.left_bytes == 0

    wait_for("the month to be spent", short, seconds=SECONDS)
    before = poor.status().state.outbox
    poor.ask(ControlRequest(method="hold", reason="not urgent"))
    poor.ask(ControlRequest(method="sync"))
    poor.ask(ControlRequest(method="resume"))
    poor.ask(ControlRequest(method="sync"))

    def reported() -> bool:
        heard = poor.hub.heard[poor.name].reports[-1].outbox
        return heard.budget is not None and heard.budget.thinning == "urgent-only" and heard.pending >= 2

    wait_for("the hub to be told", reported, seconds=SECONDS)
    after = poor.status().state.outbox
    assert after.recorded >= before.recorded + 2
    assert (after.acknowledged, after.dropped) == (before.acknowledged, before.dropped)
    assert after.recorded == after.acknowledged + after.pending + sum(after.dropped.values()) + sum(
        after.merged.values()
    )
    answer = poor.ask(ControlRequest(method="data"))
    assert isinstance(answer, DataResult)
    assert answer.ledger.budget is not None
    assert answer.ledger.budget.used_bytes > 1
