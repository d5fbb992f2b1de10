"""After the storm the hub holds each record exactly once, and what devices dropped is what they counted."""

from collections import Counter

import pytest

from agent.runner.drift_log import OPEN_SECONDS
from tests.fault.telemetry.storm import CHECKPOINT_SECONDS, RATE, Storm
from tests.support.counts import count

# paho forgets the socket whose TLS handshake a dying broker cut short.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SECONDS_LOST_BY_A_KILL = OPEN_SECONDS + 3 * CHECKPOINT_SECONDS
"""Of a device's open window: its newest copy may be so old (see ``telemetry.checkpoint_seconds``)."""


def test_it_was_a_storm(storm: Storm, request: pytest.FixtureRequest) -> None:
    assert storm.done["broker dies"] + storm.done["both die"] >= 1
    assert storm.done["hub dies"] + storm.done["both die"] >= 1
    assert storm.done["device dies"] + storm.done["runner dies"] >= 1
    assert storm.relay.sent_again >= 1
    assert storm.relay.dropped >= 1, "the broker's queue for the hub overflowed"
    done = {thing.replace(" ", "_"): times for thing, times in sorted(storm.done.items())}
    relay = {"delivered_again": storm.relay.sent_again, "dropped_by_the_broker": storm.relay.dropped}
    count(request, "storm over telemetry", **done, **relay)


def test_each_record_is_on_the_hub_exactly_once(storm: Storm, request: pytest.FixtureRequest) -> None:
    records = 0
    for agent in storm.fleet.agents:
        ledger, held = storm.ledger(agent), storm.held(agent)
        assert len(held) == len(set(held))
        assert ledger["recorded"] == ledger["acknowledged"] + storm.dropped(agent) + storm.merged(agent)
        assert len(held) == ledger["acknowledged"], agent.name
        if storm.dropped(agent) + storm.merged(agent) == 0:
            assert held == list(range(1, ledger["recorded"] + 1)), agent.name
            assert ledger["acknowledged"] == ledger["recorded"], agent.name
        records += len(held)
    count(request, "storm over telemetry", records_each_on_the_hub_once=records)


def test_what_was_dropped_is_what_was_counted(storm: Storm, request: pytest.FixtureRequest) -> None:
    agent = storm.agent(storm.sheltered)
    ledger, held = storm.ledger(agent), storm.held(agent)
    dropped, merged = storm.dropped(agent), storm.merged(agent)
    assert dropped >= 1
    assert ledger["recorded"] == ledger["acknowledged"] + dropped + merged
    assert len(held) == ledger["acknowledged"]
    reported = storm.fleet.devices()[agent.name]["outbox"]
    assert sum(reported["dropped"].values()) == dropped, "the hub knows"
    count(request, "storm over telemetry", dropped_by_a_full_outbox_and_counted=dropped)


def test_each_window_is_what_the_device_closed(storm: Storm) -> None:
    """Or, where the outbox was full, the sum of some that it closed one after the other."""
    for agent in storm.fleet.agents:
        own = Counter(agent.query("SELECT opened, closed, rows FROM windows"))
        query = "SELECT opened, closed, rows FROM drift_windows WHERE device = ?"
        hubs = Counter(storm.ask_hub(query, agent.name))
        if storm.dropped(agent) + storm.merged(agent) == 0:
            assert hubs == own, agent.name
        for opened, closed, rows in hubs:
            within = [
                own_rows
                for own_opened, own_closed, own_rows in own
                if opened <= own_opened and own_closed <= closed
            ]
            assert rows <= sum(within), agent.name
        assert sum(rows for _, _, rows in hubs) <= sum(rows for _, _, rows in own)


def test_rows_are_accounted_for(storm: Storm) -> None:
    """Of a runner that was killed at most the last seconds are missing; of one that was not, nothing."""
    for agent in storm.fleet.agents:
        assert agent.camera is not None
        tally, kills, before = agent.camera.tally(), storm.killed[agent.name], storm.asked_before[agent.name]
        rows = sum(rows for (rows,) in agent.query("SELECT rows FROM windows"))
        if not kills:
            assert rows == before + tally.sent - tally.failed, agent.name
        assert rows <= before + tally.sent, agent.name
        assert rows >= tally.sent - tally.failed - kills * RATE * SECONDS_LOST_BY_A_KILL, agent.name


def test_a_window_that_nobody_could_close_is_incomplete_with_its_count(storm: Storm) -> None:
    assert len(storm.left_open) == 2
    for name, left in storm.left_open.items():
        incomplete = storm.agent(name).query("SELECT opened, rows FROM windows WHERE incomplete")
        assert len(left) == 1
        assert left[0] in incomplete, name
        query = "SELECT opened, rows FROM drift_windows WHERE device = ? AND incomplete"
        assert sorted(storm.ask_hub(query, name)) == sorted(incomplete), name
    for agent in storm.fleet.agents:
        count = agent.query("SELECT count(*) FROM windows WHERE incomplete")[0][0]
        assert count <= storm.killed[agent.name], agent.name
