"""A fleet under load to which everything happens: its broker, hub, devices and runners die, clocks are set, messages come twice."""

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from agent.runner.drift_log import OPEN_SECONDS
from agent.transport.identity_files import IdentityFiles
from cloud_hub.devices.authority import DeviceAuthority
from models.digits import data
from tests.acceptance.cameras import Camera
from tests.acceptance.processes import wait_for
from tests.acceptance.world import MODEL, Agent
from tests.fault.telemetry.relay import ACL, Relay, relay_identity
from tests.support.fleet import answered, start
from tests.support.mosquitto_fleet import MosquittoFleet
from tests.support.moving_clock import MovingClock
from tests.support.own_children import children_running

QUEUE = 20
"""Messages that the broker keeps for a hub that is slow; the fleet's own file says 100,000."""
HOUR = 3_600
JUMPS = (-30 * 24 * HOUR, -HOUR, -90, 90, HOUR, 30 * 24 * HOUR)
"""Seconds by which a device's clock is wrong."""
RATE = 150.0
"""Requests a second and device: a window of 300 rows closes every two seconds."""
SMALL_OUTBOX_BYTES = 12_000
CHECKPOINT_SECONDS = 1.0
REQUESTS_LEFT_OPEN = 20
SECONDS = 60.0


@dataclass
class Storm:
    """The fleet and what is done to it.

    ``sheltered`` is a device whose process is never killed, and whose outbox is so small that it must drop records while the hub
    is away.
    """

    fleet: MosquittoFleet
    seed: int
    clocks: dict[str, MovingClock] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    """What was done how often."""
    asked_before: Counter[str] = field(default_factory=Counter)
    """Requests that a device answered before its camera began."""
    left_open: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """What was written of the windows that were open when a device or a runner died at the end: opened, rows."""
    killed: Counter[str] = field(default_factory=Counter)
    """How often a device's runner was killed, with it or alone."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.sheltered = "sheltered"
        self._recorded: list[int] = []

    # --- before ------------------------------------------------------------------------------------------------

    def make(self, devices: int) -> None:
        """Devices that have committed release 1, each with a clock of its own and a camera."""
        for name in (*(f"exposed-{number + 1}" for number in range(devices)), self.sheltered):
            agent = self.fleet._make_agent(name)
            self.fleet.agents.append(agent)
            self._configure(agent)
            self.clocks[name] = MovingClock(agent.folder)
            agent.service.environment.update(self.clocks[name].environment)
            start(agent)
        rollout = self.fleet.start_rollout(1)
        wait_for("release 1 to be committed", lambda: self._committed(rollout), seconds=SECONDS)
        images, labels = data.held_out()
        for agent in self.fleet.agents:
            agent.camera = Camera(agent.address, MODEL, images, labels, RATE)
            agent.camera.start()
        self._make_relay()

    def _committed(self, rollout: int) -> bool:
        """Keep requests coming, which is what probation waits for, and count them."""
        for agent in self.fleet.agents:
            self.asked_before[agent.name] += answered(agent) is not None
        return bool(self.fleet.rollout_state(rollout)["status"] == "completed")

    def _configure(self, agent: Agent) -> None:
        text = agent.config.read_text()
        text = text.replace("send_seconds = 1.0", "send_seconds = 0.5")
        text = text.replace("health_seconds = 10.0", "health_seconds = 1.0")
        text = text.replace("[telemetry]\n", f"[telemetry]\ncheckpoint_seconds = {CHECKPOINT_SECONDS}\n")
        if agent.name == self.sheltered:
            text = text.replace("[telemetry]\n", f"[telemetry]\noutbox_bytes = {SMALL_OUTBOX_BYTES}\n")
        agent.config.write_text(text)

    def _make_relay(self) -> None:
        """The relay may use everybody's topics, and the broker keeps little for a hub that is slow."""
        authority = DeviceAuthority(self.fleet.hub_folder / "authority")
        identity: IdentityFiles = relay_identity(self.fleet.folder / "relay", authority)
        broker = self.fleet.broker
        with (broker.config.parent / "acl").open("a") as acl:
            acl.write(ACL)
        text = broker.config.read_text()
        text = text.replace("max_queued_messages 100000", f"max_queued_messages {QUEUE}")
        broker.config.write_text(text + "sys_interval 1\n")
        broker.stop()
        broker.start()
        self.relay = Relay(broker.port, identity, self.seed)

    # --- the storm ---------------------------------------------------------------------------------------------

    def rage(self, seconds: float) -> None:
        """Do one thing after another, at random, for so long; each ends with everybody there again."""
        things = [
            self._broker_dies,
            self._hub_dies,
            self._both_die,
            self._device_dies,
            self._runner_dies,
            self._hub_is_slow,
            self._clock_is_set,
        ]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._random.shuffle(things)
            for thing in things:  # each once, also in a short storm
                self._do(thing)
                self.relay.again(self._random.randrange(1, 20))
                time.sleep(self._random.uniform(0.2, 1.5))

    def _do(self, thing: Callable[[], None]) -> None:
        thing()
        self.done[thing.__name__.strip("_").replace("_", " ")] += 1

    def _pause(self) -> None:
        time.sleep(self._random.uniform(0.0, 3.0))

    def _exposed(self) -> Agent:
        return self._random.choice([agent for agent in self.fleet.agents if agent.name != self.sheltered])

    def _broker_dies(self) -> None:
        self.fleet.broker.stop(signal.SIGKILL)
        self._pause()
        self.fleet.broker.start()

    def _hub_dies(self) -> None:
        self.fleet.hub.kill()
        self._pause()
        self._start_hub()

    def _both_die(self) -> None:
        self.fleet.hub.kill()
        self.fleet.broker.stop(signal.SIGKILL)
        self._pause()
        self.fleet.broker.start()
        self._start_hub()

    def _start_hub(self) -> None:
        """Not waiting for its connection: the broker may take its time too."""
        self.fleet.hub.start()
        wait_for("the hub to answer", self.fleet._hub_is_up, seconds=SECONDS)

    def _device_dies(self) -> None:
        """As in a power cut: the agent and its runner at once."""
        agent = self._exposed()
        self._die(agent)
        self._pause()
        start(agent)

    def _die(self, agent: Agent) -> None:
        runners = children_running(agent.service.pid, "agent.runner")
        agent.service.kill()
        for runner in runners:
            if runner.is_running():
                runner.kill()
        self.killed[agent.name] += 1

    def _runner_dies(self) -> None:
        self._kill_runners(self._random.choice(self.fleet.agents))

    def _kill_runners(self, agent: Agent) -> None:
        for runner in children_running(agent.service.pid, "agent.runner"):
            runner.kill()
            self.killed[agent.name] += 1

    def _hub_is_slow(self) -> None:
        """It takes nothing for a while, and more comes than the broker keeps for it."""
        os.kill(self.fleet.hub.pid, signal.SIGSTOP)
        before = self.relay.dropped
        for _ in range(10):
            self.relay.again(10 * QUEUE)
            time.sleep(self._random.uniform(0.2, 1.0))
            if self.relay.dropped > before:
                break
        os.kill(self.fleet.hub.pid, signal.SIGCONT)

    def _clock_is_set(self) -> None:
        clock = self.clocks[self._random.choice(self.fleet.agents).name]
        clock.set(self._random.choice(JUMPS))
        self._pause()
        clock.set(0)

    def take_the_hub_away(self, until: Callable[[], bool]) -> None:
        """Leave the devices without a hub until ``until`` holds."""
        self.fleet.hub.kill()
        wait_for("records to be dropped", lambda: until() or None, seconds=SECONDS)
        self._start_hub()

    # --- after -------------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Cameras end, a device and a runner die with an open window, the others close theirs, and everything is sent."""
        for agent in self.fleet.agents:
            assert agent.camera is not None
            agent.camera.finish()
        self.relay.stop()
        self._die_with_an_open_window()
        for agent in self.fleet.agents:
            agent.service.stop()
            text = agent.config.read_text()
            agent.config.write_text(text.replace("health_seconds = 1.0", "health_seconds = 3600.0"))
            start(agent)
        wait_for("every outbox to be empty", self._settled, seconds=SECONDS, every=0.5)

    def _die_with_an_open_window(self) -> None:
        """The first device loses its power, the runner of the second is killed; both had asked for nothing for a while."""
        first, second = self.fleet.agents[:2]
        for agent in (first, second):
            self.asked_before[agent.name] += sum(
                answered(agent) is not None for _ in range(REQUESTS_LEFT_OPEN)
            )
        time.sleep(
            OPEN_SECONDS + 3 * CHECKPOINT_SECONDS
        )  # what is promised: by then it is known how far they are
        for agent in (first, second):
            self.left_open[agent.name] = agent.query("SELECT opened, rows FROM open_windows")
        self._die(first)
        start(first)
        self._kill_runners(second)

    def _settled(self) -> bool:
        """Whether nothing waits, and nothing has come since the last look."""
        before, self._recorded = (
            self._recorded,
            [self.ledger(agent)["recorded"] for agent in self.fleet.agents],
        )
        waiting = [agent.query("SELECT count(*) FROM outbox")[0][0] for agent in self.fleet.agents]
        return before == self._recorded and not any(waiting)

    def end(self) -> None:
        """Stop what was started, in whatever state it is."""
        if hasattr(self, "relay"):
            self.relay.stop()
        self.fleet.stop()
        if hasattr(self.fleet, "broker"):
            self.fleet.broker.stop()

    def agent(self, name: str) -> Agent:
        return next(agent for agent in self.fleet.agents if agent.name == name)

    def dropped(self, agent: Agent) -> int:
        """Records that the device says it dropped, whatever for."""
        return sum(number for name, number in self.ledger(agent).items() if name.startswith("dropped:"))

    def merged(self, agent: Agent) -> int:
        """Records that it merged into others before it had to drop any."""
        return sum(number for name, number in self.ledger(agent).items() if name.startswith("merged:"))

    def ledger(self, agent: Agent) -> dict[str, int]:
        """The device's own counters."""
        return {str(name): int(value) for name, value in agent.query("SELECT name, value FROM counters")}

    def epoch(self, agent: Agent) -> str:
        return str(agent.query("SELECT value FROM meta WHERE key = 'epoch'")[0][0])

    def held(self, agent: Agent) -> list[int]:
        """Sequences of the device's records on the hub, each as often as it stands there."""
        rows = self.ask_hub(
            "SELECT sequence FROM telemetry WHERE device = ? AND epoch = ?", agent.name, self.epoch(agent)
        )
        return sorted(sequence for (sequence,) in rows)

    def ask_hub(self, query: str, *parameters: str) -> list[tuple[int, ...]]:
        with closing(sqlite3.connect(f"file:{self.fleet.hub_folder}/hub.db?mode=ro", uri=True)) as database:
            return database.execute(query, parameters).fetchall()
