"""A small fleet of real processes for integration and fault suites: the acceptance suite's world, with devices by name."""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.http as triton

from agent.cli.client import ask
from agent.cli.errors import AgentNotRunningError
from agent.config_file import load_config as load_agent_config
from agent.enrol import enrol_device
from agent.protocol.control import ControlRequest, ModelsResult
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.manifest import decode_manifest
from agent.protocol.state import DeploymentReport
from agent.protocol.telemetry import Event
from cloud_hub import setup
from cloud_hub.access.service import Role
from cloud_hub.cli.ceremony import hold_ceremony
from cloud_hub.config import load_config
from cloud_hub.telemetry.bodies import decode_body
from models.digits import data
from tests.acceptance.processes import StepFailedError, wait_for
from tests.acceptance.world import APPROVERS, HARDWARE_CLASS, MODEL, Agent, World, python
from tests.support.own_children import children_running
from tests.unit.cloud_hub.hub_world import People

PEOPLE = {"anna": Role.AUTHOR, "olga": Role.OPERATOR, "victor": Role.VIEWER, "alice": Role.APPROVER}
PROBATION_REQUESTS = 5
SLOW_MS = 10.0
"""Least time of one inference of release 2: its probe can be caught, and its budget is far away, also on a box with much else to do."""


@dataclass
class Fleet(World):
    """Hub and devices under one folder; what a test needs beside the world's own steps."""

    def make_hub(self) -> None:
        """As the world makes it, in this process and so in a tenth of the time; then the hub starts."""
        setup.create_hub(
            self.hub_folder,
            host="127.0.0.1",
            port=self.port,
            broker_port=self.broker_port,
            open_dashboard=False,
        )
        _config, paths = load_config(self.hub_config)
        hold_ceremony(paths, self.keys, approvers=APPROVERS, models=[MODEL], root_keys=3, threshold=2)
        self.token_file("anna").parent.mkdir()
        for name, role in PEOPLE.items():
            self.token_file(name).write_text(setup.new_token(paths.database, name=name, role=role))
        self.start_hub()

    def enrol(self, name: str) -> Agent:
        """Configure and enrol a device, and start its service."""
        agent = self._make_agent(name)
        self.agents.append(agent)
        start(agent)
        return agent

    def _enrol_agent(self, agent: Agent, token: Path) -> None:
        """As the command does it, in this process and so without its start."""
        enrol_device(load_agent_config(agent.config), self.url, token.read_text())

    @contextmanager
    def people(self) -> Iterator[People]:
        """The API as each role sees it."""
        tokens = {role.value: self.token_file(name).read_text() for name, role in PEOPLE.items()}
        with httpx.Client(base_url=self.url, timeout=30) as client:
            yield People(client, tokens, self.keys)

    def publish(self, folder: Path, release: int) -> None:
        """Upload and submit a packaged release folder, and sign it with two approvers' keys."""
        with self.people() as people:
            people.publish(release_files(folder), release)

    def start_rollout(self, release: int, *, devices: Sequence[str] = (), allowed_failures: int = 0) -> int:
        """Start a rollout to ``devices`` (none: to all) in one stage; returns its number."""
        wish = {
            "model": MODEL,
            "release": release,
            "devices": list(devices) or None,
            "allowed_failures": allowed_failures,
        }
        return int(self.client("olga").post("/v1/rollouts", wish)["id"])

    def wait_rollout(self, rollout: int, *, seconds: float = 60) -> None:
        """Keep requests coming, which is what probation waits for, until the rollout is complete."""

        def complete() -> bool:
            self.require_alive()
            state = self.rollout_state(rollout)
            if state["status"] == "paused":
                raise StepFailedError(f"the rollout paused: {state['reason']}")
            for agent in self.agents:
                answered(agent)
            return bool(state["status"] == "completed")

        wait_for(f"rollout {rollout} to complete", complete, seconds=seconds)

    def online(self) -> set[str]:
        return {device["id"] for device in self.client("victor").get("/v1/devices") if device["online"]}

    def bridge(self) -> dict[str, Any]:
        """What the hub's bridge counts, and whether it is connected."""
        counters: dict[str, Any] = self.client("victor").get("/v1/fleet")["bridge"]
        return counters

    def held(self, agent: Agent) -> int | None:
        """Records of the device that the hub holds, once that is exactly what the device says it recorded."""
        outbox = agent.edgeward("status")["state"]["outbox"]
        rows = self.client("victor").get("/v1/telemetry/counts")
        epochs = next((row["held"] for row in rows if row["device"] == agent.name), ())
        count = sum(part["records"] for part in epochs if part["epoch"] == outbox["epoch"])
        settled = not outbox["pending"] and not outbox["dropped"] and count == outbox["recorded"]
        return count if settled else None

    def outcomes(self, agent: Agent) -> dict[str, list[str]]:
        """Deployment → the texts of its outcome records on the hub."""
        found: dict[str, list[str]] = {}
        with closing(sqlite3.connect(f"file:{self.hub_folder}/hub.db?mode=ro", uri=True)) as database:
            query = "SELECT body FROM telemetry WHERE device = ? AND kind = 'event'"
            bodies = database.execute(query, (agent.name,)).fetchall()
        for (body,) in bodies:
            event = decode_body(body)
            if isinstance(event, Event) and event.kind == "deployment-outcome":
                found.setdefault(event.deployment or "", []).append(event.text)
        return found


def release_files(folder: Path) -> dict[str, bytes]:
    """File name → bytes of everything that the folder's manifest names, the manifest last."""
    manifest = (folder / MANIFEST_FILENAME).read_bytes()
    named = [artifact.filename for artifact in decode_manifest(manifest).artifacts()]
    return {**{name: (folder / name).read_bytes() for name in named}, MANIFEST_FILENAME: manifest}


def start(agent: Agent) -> None:
    """Start a device's service; returns when it speaks to its technician."""

    def speaks() -> bool:
        agent.service.require_alive()
        try:
            deployment(agent)
        except AgentNotRunningError:
            return False
        return True

    agent.service.start()
    wait_for(f"{agent.name} to start", speaks, seconds=20, every=0.05)


def answered(agent: Agent, *, image: Any = None) -> int | None:
    """The digit that the device's endpoint reads in an image, asked by ``tritonclient``; None while it says 503.

    Raises:
        InferenceServerException: the endpoint refused the request, or failed.
    """
    sent = data.held_out()[0][:1] if image is None else image
    with closing(triton.InferenceServerClient(url=agent.address, connection_timeout=10)) as client:
        if not client.is_model_ready(MODEL):
            return None
        tensor = triton.InferInput("image", list(sent.shape), triton_type(sent))
        tensor.set_data_from_numpy(sent)
        return int(np.argmax(client.infer(MODEL, [tensor]).as_numpy("probabilities")))


def triton_type(array: Any) -> str:
    return {"float32": "FP32", "float64": "FP64", "int64": "INT64"}[str(array.dtype)]


def served_release(agent: Agent) -> int | None:
    """The release that answers on the device now, by its own word."""
    serving = agent.edgeward("status")["state"]["serving"]
    return serving[0]["release"] if serving and serving[0]["ready"] else None


def deployment(agent: Agent) -> DeploymentReport | None:
    """The newest deployment of the device, by its own word; it has persisted what it says."""
    models = ask(str(agent.socket), ControlRequest(method="models"))
    assert isinstance(models, ModelsResult)
    return models.models[0].deployment if models.models else None


def lasting_processes(fleet: Fleet) -> set[tuple[str, int]]:
    """Hub, broker, agents and runners with their process ids (verifiers come and go)."""
    found = {("hub", fleet.hub.pid)}
    found |= {("of the hub", child.pid) for child in psutil.Process(fleet.hub.pid).children(recursive=True)}
    for agent in fleet.agents:
        runners = children_running(agent.service.pid, "agent.runner")
        found |= {
            (agent.name, agent.service.pid),
            *((f"runner of {agent.name}", each.pid) for each in runners),
        }
    return found


def _package(folder: Path, release: int) -> Path:
    named = ("--release", str(release), "--hardware-class", HARDWARE_CLASS, "--author", "anna")
    budget = ("--p99-ms", "5000", "--memory-mib", "400")
    probation = ("--probation-requests", str(PROBATION_REQUESTS), "--probation-seconds", "0")
    python("models", "package", str(folder), *named, *budget, *probation)
    return folder


@pytest.fixture(scope="session")
def first_release(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 1 of ``digits``: the teacher, measured and packaged."""
    folder = tmp_path_factory.getbasetemp() / "fleet-release-1"
    if not folder.exists():
        shutil.copytree(teacher_folder, folder)
        out = folder / f"bench-{HARDWARE_CLASS}.json"
        measure = ("--hardware-class", HARDWARE_CLASS, "--out", str(out), "--quick")
        python("hw_bench", "run", str(folder), *measure)
    return _package(folder, 1)


@pytest.fixture(scope="session")
def slow_release(first_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 2 of ``digits``: reads digits as well as release 1, takes ``SLOW_MS`` for each."""
    folder = tmp_path_factory.getbasetemp() / "fleet-release-2"
    if not folder.exists():
        spoil = ("--kind", "too-slow", "--delay-ms", str(SLOW_MS))
        python("models", "digits", "fault", *spoil, "--from", str(first_release), "--out", str(folder))
    return _package(folder, 2)
