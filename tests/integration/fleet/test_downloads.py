"""A release by HTTPS, from hub to device: told how far it is everywhere, gone on with over MQTT when HTTP goes away."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.manifest import decode_manifest
from tests.acceptance.processes import run, wait_for
from tests.acceptance.world import Agent
from tests.integration.downloads.test_ways import report
from tests.support.byte_proxy import ByteProxy
from tests.support.fleet import Fleet, start
from tests.support.ports import free_port

MIB = 1024 * 1024
SECONDS = 8
"""The transfer takes, so that it can be looked at on the way."""


class DownloadFleet(Fleet):
    """The hub has a listener for devices, which they reach through a proxy that counts and cuts."""

    limit: int

    def make_hub(self) -> None:
        self.listener = free_port()
        self.proxy = ByteProxy(self.listener)
        super().make_hub()

    def start_hub(self) -> None:
        text = self.hub_config.read_text()
        text = text.replace(
            '# url = "https://hub.example:8443"', f'url = "https://127.0.0.1:{self.proxy.port}"'
        )
        text = text.replace('# host = "0.0.0.0"', 'host = "127.0.0.1"')
        self.hub_config.write_text(text.replace("# port = 8443", f"port = {self.listener}"))
        super().start_hub()

    def enrol(self, name: str) -> Agent:
        agent = self._make_agent(name)
        with agent.config.open("a") as file:
            file.write(
                "\n[transfer]\nsmall_bytes = 0\nbackoff_seconds = 0.2\nlongest_backoff_seconds = 1.0\n"
                f"limit_bytes_per_second = {self.limit}\n"
            )
        self.agents.append(agent)
        start(agent)
        return agent


@pytest.fixture(scope="module")
def fleet(first_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DownloadFleet]:
    made = DownloadFleet(tmp_path_factory.mktemp("downloads"))
    try:
        made.make_hub()
        with made.proxy:
            made.publish(first_release, 1)
            manifest = decode_manifest((first_release / MANIFEST_FILENAME).read_bytes())
            made.limit = max(file.size for file in manifest.artifacts()) // SECONDS
            yield made
            made.stop()
    finally:
        made.stop()


def progress_on_the_hub(fleet: DownloadFleet, name: str) -> dict[str, Any] | None:
    reported = fleet.devices().get(name)
    deployments = reported["deployments"] if reported else ()
    found: dict[str, Any] | None = next((each["progress"] for each in deployments), None)
    return found


def test_it_comes_over_https_and_where_that_goes_away_over_mqtt(fleet: DownloadFleet) -> None:
    fleet.proxy.cut_after(fleet.limit * SECONDS // 2, stay_closed=True)
    agent = fleet.enrol("camera-1")
    rollout = fleet.start_rollout(1)
    told: list[dict[str, Any]] = []

    def moving() -> bool:
        found = progress_on_the_hub(fleet, "camera-1")
        told.extend([found] if found is not None else [])
        return bool(found and found["bytes_per_second"])

    wait_for("the hub to be told of the transfer", moving, seconds=60)
    words = run("edgeward", "status", "--socket", str(agent.socket), allowed=(0, 10))
    assert re.search(r"digits release 1 is being installed: fetching .*B/s, .* left, over (http|mqtt)", words)
    token = fleet.token_file("victor").read_text().strip()
    page = httpx.get(fleet.url, params={"token": token}, follow_redirects=True, timeout=30).text
    assert "<progress max=" in page
    listed = run("edgeward-hub", "devices", *fleet.as_person("victor"))
    assert re.search(
        r"camera-1 \(demo-linux\): online, nothing yet; digits 1: fetching .* over (http|mqtt)", listed
    )
    wait_for("MQTT to go on", lambda: moving() and told[-1]["way"] == "mqtt", seconds=60)
    assert fleet.proxy.was_cut.is_set(), "the first half came over HTTP"
    assert told[0]["way"] in {"http", "mqtt"}
    assert all(each["done_bytes"] <= each["total_bytes"] for each in told)
    assert all((each["bytes_per_second"] or 0) < 4 * fleet.limit for each in told)
    fleet.wait_rollout(rollout, seconds=120)
    check_the_ledger(fleet, agent)
    memory = psutil.Process(agent.service.pid).memory_full_info()
    report(
        f"the service after a release over HTTPS: PSS {memory.pss / MIB:.1f} MiB, USS {memory.uss / MIB:.1f} MiB"
    )
    assert memory.uss < 36 * MIB, "what speaks HTTP has taken its memory with it"


def check_the_ledger(fleet: DownloadFleet, agent: Agent) -> None:
    spent = {each["purpose"]: each for each in agent.edgeward("data")["ledger"]["traffic"]}
    stored = [file for file in (agent.folder / "state" / "artifacts" / "sha256").rglob("*") if file.is_file()]
    files = sum(file.stat().st_size for file in stored)
    came = sum(spent[purpose]["bytes_in"] for purpose in ("artifacts", "patches") if purpose in spent)
    assert 0.3 * files < came <= files * 1.1 + 300_000, "what is compressed on its way is less"
    assert spent["metadata"]["bytes_in"] > 0
    assert spent["reported"]["bytes_out"] > 0
    assert spent["desired"]["bytes_in"] > 0
    assert {each["purpose"] for each in fleet.devices()["camera-1"]["traffic"]} <= set(spent)
