"""A device under attack: a real ``edgeward-agent``, enrolled, with its state, its log and its clients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from agent.cli.client import ask
from agent.cli.errors import AgentNotRunningError
from agent.config import AgentConfig
from agent.config_file import load_config
from agent.enrolled import TRUST_FILE
from agent.protocol.control import ControlRequest, ControlResult, ModelReport, ModelsResult, StatusResult
from agent.protocol.state import FINAL_PHASES, DeploymentReport, Phase, Reason, ReportedState
from agent.protocol.verification import VerifyResult
from agent.store.trust_db import TrustDatabase, TrustState
from tests.acceptance.processes import Service, StepFailedError, wait_for
from tests.fault.attacks.enrolling import enrol
from tests.fault.attacks.hostile_hub import Heard, HostileHub
from tests.fault.attacks.line import Line
from tests.fault.attacks.releases import HARDWARE_CLASS, ROW

SECONDS = 30.0
"""How long anything may take on a machine that others use too."""
CONFIG = """\
[device]
id = "{name}"
hardware_class = "{hardware_class}"
state_dir = "{folder}/state"
runtime_dir = "{folder}/run"

[probe]
warmup = 1
repetitions = 5

[serving]
drain_seconds = 1.0

[transfer]
minimum_bytes_per_second = 60000
stuck_seconds = 6.0
tries = 2
backoff_seconds = 0.2
longest_backoff_seconds = 0.4

[telemetry]
send_seconds = 1.0
gather_seconds = 1.0
report_seconds = 600.0
health_seconds = 600.0

[log]
format = "json"
"""


SAMPLES = """
[samples]
enabled = true
may_leave = true
"""


class AttackedDevice:
    """One device of a hostile hub, from enrolment on.

    Args:
        folder: empty.
        samples: whether its owner keeps samples, and lets them go.
        hub: that is asked for everything.
        authority: folder of the authority that the broker trusts.
        broker_port: where the broker really is.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        hub: HostileHub,
        authority: Path,
        broker_port: int,
        *,
        samples: bool = True,
    ) -> None:
        self.folder = folder
        self.name = name
        self.hub = hub
        self.line = Line(broker_port)
        path = folder / "agent.toml"
        text = CONFIG.format(name=name, hardware_class=HARDWARE_CLASS, folder=folder)
        path.write_text(text + SAMPLES if samples else text)
        self.config: AgentConfig = load_config(path)
        self.service = Service(name, ("edgeward-agent", "run", "--config", str(path)), folder / "agent.log")
        self.pid = 0
        """Of the service that was started last."""
        enrol(self.config, hub, authority, self.line.port)

    def start(self) -> None:
        """Returns when it speaks to its technician."""

        def speaks() -> bool:
            self.service.require_alive()
            try:
                self.status()
            except AgentNotRunningError:
                return False
            return True

        self.service.start()
        self.pid = self.service.pid
        wait_for(f"{self.name} to start", speaks, seconds=SECONDS, every=0.02)

    def stop(self) -> None:
        self.service.stop()

    def close(self) -> None:
        self.service.stop()
        self.line.close()

    # --- what it says -----------------------------------------------------------------------------------------

    def ask(self, request: ControlRequest) -> ControlResult:
        """What a technician's command asks."""
        return ask(str(self.config.control_socket), request)

    def status(self) -> StatusResult:
        answer = self.ask(ControlRequest(method="status"))
        assert isinstance(answer, StatusResult)
        return answer

    def models(self) -> dict[str, ModelReport]:
        answer = self.ask(ControlRequest(method="models"))
        assert isinstance(answer, ModelsResult)
        return {model.model: model for model in answer.models}

    def deployment(self, model: str = "digits") -> DeploymentReport | None:
        report = self.models().get(model)
        return None if report is None else report.deployment

    def errors(self) -> dict[str, int]:
        return self.status().state.errors

    def counts(self, kind: str, least: int) -> bool:
        """Wait until so many of ``kind`` were counted."""
        return wait_for(
            f"{least} of {kind}", lambda: self.errors().get(kind, 0) >= least, seconds=SECONDS, every=0.03
        )

    def reports(self) -> int:
        """How many the hub has heard."""
        return len(self.hub.heard.setdefault(self.name, Heard()).reports)

    def hears(self, check: Callable[[ReportedState], Any], since: int) -> ReportedState:
        """What the hub is told: the first report, from the ``since``-th on, of which ``check`` says something true."""
        return self.hub.wait_for_report(self.name, check, since=since, seconds=SECONDS)

    def log(self) -> str:
        return self.service.log.read_text(errors="replace")

    def memory_mib(self) -> float:
        """Of the agent's own process."""
        return float(psutil.Process(self.service.pid).memory_info().rss) / 2**20

    def biggest_artifact(self) -> int:
        """Bytes of the largest file among its artifacts, whole or in part."""
        folder = self.config.state / "artifacts"
        return max(path.stat().st_size for path in folder.glob("**/*") if path.is_file())

    def trust(self) -> TrustState:
        """What the stopped device keeps of its trust."""
        database = TrustDatabase(self.config.state / TRUST_FILE)
        try:
            return database.load()
        finally:
            database.close()

    def lose(self, *names: str) -> None:
        """What an ordinary power loss can leave of files that were not synced: empty ones. The device is stopped."""
        database = TrustDatabase(self.config.state / TRUST_FILE)
        try:
            database.apply(VerifyResult(metadata=dict.fromkeys(names, b"")))
        finally:
            database.close()

    # --- what it is asked for ---------------------------------------------------------------------------------

    def answer(self, model: str = "digits") -> int | None:
        """The release that answers a client now, by its answer; None while it says 503."""
        transport = httpx.HTTPTransport(uds=str(self.config.runtime / "models" / f"{model}.sock"))
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW}]}
        with httpx.Client(transport=transport, base_url="http://device", timeout=20.0) as client:
            response = client.post(f"/v2/models/{model}/infer", json=body)
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return None
        response.raise_for_status()
        found: list[float] = response.json()["outputs"][0]["data"]
        release = found[0]
        assert found == [release * value for value in ROW]
        return round(release)

    # --- what the hub makes it do -----------------------------------------------------------------------------

    def desire(self, director: bytes | str) -> None:
        """Publish a document for this device."""
        self.hub.desire(self.name, director)

    def order(self, release: int, model: str = "digits") -> tuple[bytes, str]:
        """A document that the director signed for this device, and the deployment that it orders."""
        deployment = self.hub.next_deployment()
        return self.hub.direct(release, model=model, device=self.name, deployment=deployment), deployment

    def refuses(self, director: bytes | str) -> Reason:
        """Publish a document; the reason for which it is not taken as a whole."""
        before = self.errors().get("desired-refused", 0)
        self.desire(director)

        def refused() -> Reason | None:
            self.service.require_alive()
            state = self.status().state
            return state.refusal if state.errors.get("desired-refused", 0) > before else None

        return wait_for(f"{self.name} to refuse", refused, seconds=SECONDS, every=0.03)

    def rejects(self, director: bytes | str, deployment: str, model: str = "digits") -> Reason:
        """Publish a document that is taken, and whose one order is not: the reason for that."""
        report = self.ends(director, deployment, model)
        assert report.phase is Phase.REFUSED, report
        assert report.reason is not None
        return report.reason

    def ends(self, director: bytes | str, deployment: str, model: str = "digits") -> DeploymentReport:
        """Publish a document; how it ends the one deployment that the document orders, whose probation is fed."""
        self.desire(director)

        def ended() -> DeploymentReport | None:
            self.service.require_alive()
            found = self.deployment(model)
            if found is None or found.deployment != deployment:
                return None
            if found.phase is Phase.PROBATION:
                self.answer(model)
            return found if found.phase in FINAL_PHASES else None

        try:
            return wait_for(f"{deployment} to end", ended, seconds=SECONDS, every=0.02)
        except StepFailedError as error:
            raise AssertionError(f"{error}: {self.deployment(model)}; {self.log()[-3000:]}") from error

    def commits(self, release: int, model: str = "digits") -> None:
        """An honest order for an approved release comes through, whatever was tried before."""
        director, deployment = self.order(release, model)
        report = self.ends(director, deployment, model)
        assert (report.phase, report.release) == (Phase.COMMITTED, release), report
        assert self.answer(model) == release
