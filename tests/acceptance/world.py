"""The world of the loop: a hub, people with keys, four cameras' devices, and the releases they are given."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.digits import data
from tests.acceptance.cameras import Camera
from tests.acceptance.hub_client import HubClient
from tests.acceptance.processes import Service, run, wait_for
from tests.support.ports import free_port

MODEL = "digits"
HARDWARE_CLASS = "demo-linux"
DEVICES = ("camera-1", "camera-2", "camera-3", "camera-4")
APPROVERS = ("alice", "bob", "carol")
REQUESTS_A_SECOND = 40.0
BUDGET_P99_MS = 250.0
"""Over 1,000 times what these models need alone: a dozen processes share two cores here."""
BUDGET_MEMORY_MIB = 400.0
PROBATION_REQUESTS = 40
ROOT = Path(__file__).parents[2]


@dataclass
class Agent:
    """One device: its service, its configuration, its camera."""

    name: str
    folder: Path
    port: int
    service: Service
    camera: Camera | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        return self.folder / "agent.toml"

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "control.sock"

    def edgeward(self, *arguments: str) -> Any:
        """What a technician reads: ``edgeward … --json`` (exit code 10: it works, and something is wrong)."""
        return json.loads(
            run("edgeward", *arguments, "--json", "--socket", str(self.socket), allowed=(0, 10))
        )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the device's telemetry database, from outside, while it runs."""
        path = f"file:{self.folder}/state/telemetry.db?mode=ro"
        with closing(sqlite3.connect(path, uri=True)) as database:
            return database.execute(sql).fetchall()


@dataclass
class World:
    """Everything that runs, under one folder."""

    folder: Path
    port: int = field(default_factory=free_port)
    broker_port: int = field(default_factory=free_port)
    agents: list[Agent] = field(default_factory=list)

    def __post_init__(self) -> None:
        serve = ("edgeward-hub", "serve", "--config", str(self.hub_config))
        self.hub = Service("hub", serve, self.folder / "logs" / "hub.log")
        self._clients: dict[str, HubClient] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def hub_folder(self) -> Path:
        return self.folder / "hub"

    @property
    def hub_config(self) -> Path:
        return self.hub_folder / "hub.toml"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def token_file(self, name: str) -> Path:
        return self.folder / "people" / f"{name}.token"

    def client(self, name: str) -> HubClient:
        """The hub's API as one person sees it."""
        if name not in self._clients:
            self._clients[name] = HubClient(self.url, self.token_file(name).read_text().strip())
        return self._clients[name]

    def as_person(self, name: str) -> tuple[str, ...]:
        """Options with which a person's command finds the hub."""
        return ("--hub", self.url, "--token-file", str(self.token_file(name)))

    # --- hub and people ---------------------------------------------------------------------------------------

    def make_hub(self) -> None:
        """Configuration, keys, the first ceremony, people with their tokens; then the hub starts."""
        ports = ("--port", str(self.port), "--broker-port", str(self.broker_port))
        run("edgeward-hub", "init", str(self.hub_folder), *ports, "--open-dashboard")
        config = ("--config", str(self.hub_config))
        approvers = [word for name in APPROVERS for word in ("--approver", name)]
        keys = ("--keys-dir", str(self.keys))
        run("edgeward-hub", "ceremony", "create", *keys, *approvers, "--model", MODEL, *config)
        roles = {
            "anna": "author",
            "olga": "operator",
            "victor": "viewer",
            "ines": "auditor",
            **dict.fromkeys(APPROVERS, "approver"),
        }
        self.token_file("anna").parent.mkdir()
        for name, role in roles.items():
            token = run("edgeward-hub", "token", "create", "--role", role, "--name", name, *config)
            self.token_file(name).write_text(token)
        for name in APPROVERS:
            trust = self.folder / "people" / f"{name}-trust"
            trust.mkdir()
            (trust / "root.json").write_bytes((self.hub_folder / "metadata" / "1.root.json").read_bytes())
        self.start_hub()

    def start_hub(self) -> None:
        self.hub.start()
        wait_for("the hub to answer", self._hub_is_up, seconds=40)

    def _hub_is_up(self) -> bool:
        self.hub.require_alive()
        return self.client("victor").is_up()

    def approve(self, approver: str, release: int) -> str:
        """One approver checks and signs; returns what was shown to them."""
        pem = self.keys / "approvers" / f"{approver}.pem"
        trust = self.folder / "people" / f"{approver}-trust"
        signing = ("--trust", str(trust), "--key", f"file2:{pem}")
        return run(
            "edgeward-hub", "approve", *self.as_person(approver), *signing, MODEL, str(release), "--yes"
        )

    def rollout(self, release: int, stages: str) -> int:
        """Start a rollout and return its number."""
        run(
            "edgeward-hub",
            "rollout",
            "start",
            MODEL,
            str(release),
            "--stages",
            stages,
            *self.as_person("olga"),
        )
        newest = self.client("victor").get("/v1/rollouts")[0]
        assert newest["release"] == release
        return int(newest["id"])

    def steer(self, rollout: int, action: str) -> None:
        """What the operator does with a rollout: ``resume``, ``abort``, ``rollback``."""
        run("edgeward-hub", "rollout", action, str(rollout), *self.as_person("olga"))

    def rollout_state(self, rollout: int) -> dict[str, Any]:
        state: dict[str, Any] = self.client("victor").get(f"/v1/rollouts/{rollout}")["state"]
        return state

    # --- releases ---------------------------------------------------------------------------------------------

    def release_folder(self, name: str) -> Path:
        return self.folder / "releases" / name

    def make_releases(self) -> None:
        """Train, distil, quantise, measure and package; two of the four are spoiled on purpose."""
        teacher, student = self.release_folder("teacher"), self.release_folder("student")
        teacher.parent.mkdir()
        python("models", "digits", "teacher", "--out", str(teacher))
        _bench(teacher)
        _package(teacher, 1, "The teacher, in fp32.")
        python("models", "digits", "student", "--teacher", str(teacher), "--out", str(student))
        _bench(student)
        _package(student, 2, "A distilled student in int8: a twentieth of the size.", "--parent", "digits:1")
        for release, kind in ((3, "wrong-outputs"), (4, "too-slow")):
            # Spoiled after it was measured: its evidence is that of the good files, as a broken build's would be.
            folder = self.release_folder(kind)
            python("models", "digits", "fault", "--kind", kind, "--from", str(student), "--out", str(folder))
            _package(folder, release, "A retrained student.", "--parent", "digits:2")

    def submit(self, name: str) -> None:
        """The author uploads a release folder."""
        run("edgeward-hub", "release", "submit", str(self.release_folder(name)), *self.as_person("anna"))

    # --- devices ----------------------------------------------------------------------------------------------

    def make_agents(self) -> None:
        """Configure and enrol four devices, start their services, and point a camera at each."""
        images, labels = data.held_out()
        for name in DEVICES:
            agent = self._make_agent(name)
            self.agents.append(agent)
            agent.service.start()
            agent.camera = Camera(agent.address, MODEL, images, labels, REQUESTS_A_SECOND)
            agent.camera.start()

    def _make_agent(self, name: str) -> Agent:
        folder, port = self.folder / "devices" / name, free_port()
        folder.mkdir(parents=True)
        config = folder / "agent.toml"
        run_service = ("edgeward-agent", "run", "--config", str(config))
        agent = Agent(name, folder, port, Service(name, run_service, self.folder / "logs" / f"{name}.log"))
        config.write_text(
            f'[device]\nid = "{name}"\nhardware_class = "{HARDWARE_CLASS}"\n'
            f'state_dir = "{folder}/state"\nruntime_dir = "{folder}/run"\n\n'
            f'[serving]\naddress = "127.0.0.1:{port}"\ndrain_seconds = 10.0\n\n'
            "[probe]\nwarmup = 3\nrepetitions = 100\n\n"
            "[telemetry]\nsend_seconds = 1.0\ngather_seconds = 1.0\nreport_seconds = 2.0\nhealth_seconds = 10.0\n"
        )
        token = folder / "enrolment.token"
        issued = self.client("olga").post("/v1/enrolment-tokens", {"device": name, "lifetime_seconds": 600})
        token.write_text(issued["token"])
        self._enrol_agent(agent, token)
        return agent

    def _enrol_agent(self, agent: Agent, token: Path) -> None:
        enrol = ("--config", str(agent.config), "--hub", self.url, "--token-file", str(token))
        run("edgeward-agent", "enrol", *enrol)

    def devices(self) -> dict[str, dict[str, Any]]:
        """Each device's newest report as the hub has it."""
        return {
            device["id"]: device["reported"]
            for device in self.client("victor").get("/v1/devices")
            if device["reported"] is not None
        }

    def deployment(self, device: str, release: int) -> dict[str, Any] | None:
        """The newest deployment of a device, if it is of ``release``."""
        reported = self.devices().get(device)
        for deployment in reported["deployments"] if reported else ():
            if deployment["release"] == release:
                return dict(deployment)
        return None

    def require_alive(self) -> None:
        for agent in self.agents:
            agent.service.require_alive()

    def stop(self) -> None:
        """Stop what was started, in the order that loses nothing."""
        for agent in self.agents:
            if agent.camera is not None:
                agent.camera.finish()
        for agent in self.agents:
            agent.service.stop()
        self.hub.stop()
        for client in self._clients.values():
            client.close()


def _bench(folder: Path) -> None:
    out = folder / f"bench-{HARDWARE_CLASS}.json"
    python("hw_bench", "run", str(folder), "--hardware-class", HARDWARE_CLASS, "--out", str(out), "--quick")


def _package(folder: Path, release: int, summary: str, *more: str) -> None:
    budget = ("--p99-ms", str(BUDGET_P99_MS), "--memory-mib", str(BUDGET_MEMORY_MIB))
    words = ("--author", "anna", "--summary", summary)
    probation = ("--probation-requests", str(PROBATION_REQUESTS), "--probation-seconds", "0")
    named = ("--release", str(release), "--hardware-class", HARDWARE_CLASS)
    python("models", "package", str(folder), *named, *budget, *words, *probation, *more)


def python(module: str, *arguments: str) -> str:
    """Run one of our modules as a person does: ``python -m module …``."""
    return run("python", "-m", module, *arguments, cwd=ROOT)
