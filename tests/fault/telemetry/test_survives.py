"""After the storm the hub holds each record exactly once, and what devices dropped is what they counted."""

from collections import Counter

import pytest

from tests.fault.telemetry.storm import RATE, Storm
from tests.support.counts import count

# paho forgets the socket whose TLS handshake a dying broker cut short.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SECONDS_LOST_BY_A_KILL = 8.0
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
        if storm.dropped(agent) == 0:
            assert held == list(range(1, ledger["recorded"] + 1)), agent.name
            assert ledger["acknowledged"] == ledger["recorded"], agent.name
        records += len(held)
    count(request, "storm over telemetry", records_each_on_the_hub_once=records)


def test_what_was_dropped_is_what_was_counted(storm: Storm, request: pytest.FixtureRequest) -> None:
    agent = storm.agent(storm.sheltered)
    ledger, held = storm.ledger(agent), storm.held(agent)
    dropped = storm.dropped(agent)
    assert dropped >= 1
    assert ledger["recorded"] == ledger["acknowledged"] + dropped
    assert len(held) == ledger["acknowledged"]
    reported = storm.fleet.devices()[agent.name]["outbox"]
    assert sum(reported["dropped"].values()) == dropped, "the hub knows"
    count(request, "storm over telemetry", dropped_by_a_full_outbox_and_counted=dropped)


def test_each_window_is_what_the_device_closed(storm: Storm) -> None:
    for agent in storm.fleet.agents:
        own = Counter(agent.query("SELECT opened, closed, rows FROM windows"))
        query = "SELECT opened, closed, rows FROM drift_windows WHERE device = ?"
        hubs = Counter(storm.ask_hub(query, agent.name))
        if storm.dropped(agent) == 0:
            assert hubs == own, agent.name
        else:
            assert hubs <= own, agent.name


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


def test_a_window_that_nobody_could_close_is_incomplete(storm: Storm) -> None:
    for agent in storm.fleet.agents:
        incomplete = agent.query("SELECT count(*) FROM windows WHERE incomplete")[0][0]
        assert incomplete <= storm.killed[agent.name]
