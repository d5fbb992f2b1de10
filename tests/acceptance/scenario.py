"""The nine points of the whole loop, each a function that does it and returns what it saw."""

import time
from dataclasses import dataclass
from typing import Any

from models.digits import data
from tests.acceptance.attacker import plant_release
from tests.acceptance.cameras import Tally
from tests.acceptance.processes import StepFailedError, wait_for
from tests.acceptance.world import DEVICES, MODEL, Agent, World

ROLLOUT_SECONDS = 90.0
DIRTY = "camera-3"


@dataclass(frozen=True)
class Serving:
    """What a device serves, as it reports it, with the accuracy its camera saw."""

    device: str
    release: int
    variant: str
    size_bytes: int
    p50_ms: float
    p99_ms: float
    peak_memory_mib: float
    accuracy: float


@dataclass(frozen=True)
class Refusal:
    """A release that was not taken."""

    release: int
    status: str
    reason: str
    device_reason: str
    untouched: tuple[str, ...]
    """Devices that were never asked."""


@dataclass(frozen=True)
class Ledger:
    """One device's records: as it counts them, and as the hub holds them."""

    device: str
    recorded: int
    dropped: int
    held: int
    recorded_while_away: int


def start_hub(world: World) -> dict[str, Any]:
    """1: the hub, its keys, its people."""
    world.make_hub()
    summary: dict[str, Any] = world.client("victor").get("/v1/fleet")
    return summary


def publish(world: World, name: str, release: int) -> str:
    """2: submit, approve by two of three, published; returns what an approver was shown."""
    world.submit(name)
    shown = world.approve("alice", release)
    if _release_state(world, release) == "published":
        raise StepFailedError("one signature published the release; two are needed")
    world.approve("bob", release)
    if (state := _release_state(world, release)) != "published":
        raise StepFailedError(f"two approvers signed and the release is {state}")
    return shown


def _release_state(world: World, release: int) -> str:
    return str(world.client("victor").get(f"/v1/releases/{MODEL}/{release}")["release"]["state"])


def first_rollout(world: World) -> float:
    """3: four devices enrol, fetch, verify, probe, activate and commit release 1; returns the seconds it took."""
    began = time.monotonic()
    world.make_agents()
    finish_rollout(world, world.rollout(1, "100%"))
    return time.monotonic() - began


def finish_rollout(world: World, rollout: int) -> None:
    """Wait until a rollout is complete."""

    def complete() -> bool:
        world.require_alive()
        state = world.rollout_state(rollout)
        if state["status"] == "paused":
            raise StepFailedError(f"the rollout paused: {state['reason']}")
        return bool(state["status"] == "completed")

    wait_for(f"rollout {rollout} to complete", complete, seconds=ROLLOUT_SECONDS)


def watch(world: World, seconds: float) -> dict[str, Tally]:
    """4: what the cameras see for a while, from now on."""
    tallies(world, reset=True)
    time.sleep(seconds)
    return tallies(world)


def tallies(world: World, *, reset: bool = False) -> dict[str, Tally]:
    return {agent.name: agent.camera.tally(reset=reset) for agent in world.agents if agent.camera is not None}


def serving(world: World, release: int, accuracy: dict[str, Tally]) -> list[Serving]:
    """What each device measured when it took ``release``, with the accuracy its camera saw."""
    rows = []
    for name in DEVICES:
        deployment = world.deployment(name, release)
        if deployment is None or deployment["measurement"] is None:
            raise StepFailedError(f"{name} reports no measurement of release {release}")
        measured = deployment["measurement"]
        rows.append(
            Serving(
                device=name,
                release=release,
                variant=measured["variant"],
                size_bytes=measured["size_bytes"],
                p50_ms=measured["p50_ms"],
                p99_ms=measured["p99_ms"],
                peak_memory_mib=measured["peak_memory_mib"],
                accuracy=accuracy[name].accuracy,
            )
        )
    return rows


def staged_rollout(world: World) -> dict[str, Tally]:
    """5: release 2 in two stages while requests go on; returns what the cameras saw meanwhile."""
    tallies(world, reset=True)
    rollout = world.rollout(2, "1,100%")
    wait_for("the first stage", lambda: world.rollout_state(rollout)["stage"] >= 1, seconds=ROLLOUT_SECONDS)
    finish_rollout(world, rollout)
    return tallies(world)


def service_levels(world: World) -> dict[str, dict[str, Any]]:
    """Each device's verdict on its service level, as the hub has it, once there were requests enough for one."""

    def judged() -> dict[str, dict[str, Any]] | None:
        verdicts = {
            name: serving["service_level"]
            for name, reported in world.devices().items()
            for serving in reported["serving"]
        }
        if all(verdict and verdict["level"] != "insufficient data" for verdict in verdicts.values()):
            return verdicts
        return None

    return wait_for("a verdict on each device's service level", judged, seconds=60)


def dirty_lens(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """6: one camera's lens gets dirty, and stays so; the verdict on the device (from SQLite) and on the hub.

    Only windows count that began after it.
    """
    agent = next(agent for agent in world.agents if agent.name == DIRTY)
    assert agent.camera is not None
    agent.camera.lens = data.dirty_lens
    since = time.time()
    on_device = wait_for(f"{DIRTY} to see drift", lambda: _device_verdict(agent, since), seconds=60)
    on_hub = wait_for("the hub to see it", lambda: _hub_verdict(world, since), seconds=30)
    return on_device, on_hub


def _device_verdict(agent: Agent, since: float) -> dict[str, Any] | None:
    rows = agent.query(
        f"SELECT level, rows, reason FROM windows WHERE opened > {since} ORDER BY id DESC LIMIT 1"
    )
    if not rows or rows[0][0] != "drift":
        return None
    return {"level": rows[0][0], "rows": rows[0][1], "reason": rows[0][2]}


def _hub_verdict(world: World, since: float) -> dict[str, Any] | None:
    client = world.client("victor")
    for line in client.get("/v1/drift")["releases"]:
        for device in client.get(f"/v1/drift/{line['model']}/{line['release']}")["devices"]:
            seen = (device["device"], device["level"])
            if seen == (DIRTY, "drift") and device["opened"] > since:
                return dict(device["verdict"])
    return None


def bad_release(world: World, name: str, release: int) -> Refusal:
    """7: a release that only running shows to be bad: the canary refuses it and the rollout pauses by itself."""
    publish(world, name, release)
    rollout = world.rollout(release, "1,100%")

    def paused() -> dict[str, Any] | None:
        world.require_alive()
        state = world.rollout_state(rollout)
        if state["status"] == "completed":
            raise StepFailedError(f"release {release} is bad and was rolled out")
        return state if state["status"] == "paused" else None

    state = wait_for("the rollout to pause", paused, seconds=ROLLOUT_SECONDS)
    canary = next(device["device"] for device in state["devices"] if device["outcome"] == "failed")
    deployment = world.deployment(canary, release)
    world.steer(rollout, "rollback")
    others = tuple(name for name in DEVICES if name != canary and world.deployment(name, release) is None)
    return Refusal(
        release=release,
        status=state["status"],
        reason=state["reason"],
        device_reason=deployment["reason"]["code"] if deployment and deployment["reason"] else "",
        untouched=others,
    )


def attack(world: World) -> dict[str, str]:
    """8: a release put into the hub's storage and database without the approvers; returns each device's words."""
    plant_release(world, release=5)

    def refused() -> dict[str, str] | None:
        world.require_alive()
        seen = {name: _refusal_of(world, name, 5) for name in DEVICES}
        texts = {name: text for name, text in seen.items() if text}
        return texts if len(texts) == len(DEVICES) else None

    return wait_for("every device to refuse the planted release", refused, seconds=60)


def _refusal_of(world: World, device: str, release: int) -> str | None:
    deployment = world.deployment(device, release)
    if deployment is None:
        return None
    if deployment["phase"] != "refused":
        raise StepFailedError(f"{device} did not refuse the planted release: it is {deployment['phase']}")
    return f"{deployment['reason']['code']}: {deployment['reason']['text']}"


def hub_outage(world: World, seconds: float) -> list[Ledger]:
    """9: the hub is killed, devices go on and record, the hub comes back: nothing is lost, nothing is twice."""
    before = {agent.name: _recorded(agent) for agent in world.agents}
    world.hub.kill()
    time.sleep(seconds)
    away = {agent.name: _recorded(agent) - before[agent.name] for agent in world.agents}
    world.start_hub()
    return wait_for("every record to arrive", lambda: _ledgers(world, away), seconds=60)


def _recorded(agent: Agent) -> int:
    return int(agent.edgeward("status")["state"]["outbox"]["recorded"])


def _ledgers(world: World, away: dict[str, int]) -> list[Ledger] | None:
    """Every device's ledger, once the hub holds exactly what each device itself says it recorded."""
    ledgers = []
    for agent in world.agents:
        outbox = agent.edgeward("status")["state"]["outbox"]
        rows = world.client("victor").get("/v1/telemetry/counts")
        held = next(row["held"] for row in rows if row["device"] == agent.name)
        count = sum(part["records"] for part in held if part["epoch"] == outbox["epoch"])
        dropped = sum(outbox["dropped"].values())
        if outbox["pending"] or count != outbox["recorded"] - dropped:
            return None
        ledgers.append(Ledger(agent.name, outbox["recorded"], dropped, count, away[agent.name]))
    return ledgers
