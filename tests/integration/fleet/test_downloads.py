"""A release by HTTPS, from hub to device: told how far it is everywhere, gone on with over MQTT when HTTP goes away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.processes import free_port, run, wait_for
from tests.acceptance.world import Agent
from tests.support.byte_proxy import ByteProxy
from tests.support.fleet import Fleet, deployment, start

BYTES_A_SECOND = 60_000
"""The transfer takes long enough to be looked at, and to be cut."""


class DownloadFleet(Fleet):
    """The hub has a listener for devices, which they reach through a proxy that counts and cuts."""

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
                f"limit_bytes_per_second = {BYTES_A_SECOND}\n"
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
    agent = fleet.enrol("camera-1")
    rollout = fleet.start_rollout(1)

    def shown() -> dict[str, Any] | None:
        found = progress_on_the_hub(fleet, "camera-1")
        return found if found and found["way"] == "http" and found["bytes_per_second"] else None

    told = wait_for("the hub to be told of the transfer", shown, seconds=60)
    assert 0 < told["done_bytes"] < told["total_bytes"]
    assert told["bytes_per_second"] < 3 * BYTES_A_SECOND
    words = run("edgeward", "status", "--socket", str(agent.socket), allowed=(0, 10))
    assert "digits release 1 is being installed: fetching " in words
    assert "/s, " in words
    assert "over http" in words
    token = fleet.token_file("victor").read_text().strip()
    page = httpx.get(fleet.url, params={"token": token}, follow_redirects=True).text
    assert "<progress max=" in page
    assert "over http" in page

    fleet.proxy.close_door()  # HTTP is gone, in mid-file
    way = wait_for("MQTT to go on", lambda: way_of(agent) == "mqtt", seconds=60)
    assert way
    fleet.wait_rollout(rollout, seconds=120)
    spent = {each["purpose"]: each for each in agent.edgeward("data")["ledger"]["traffic"]}
    files = sum(
        file.stat().st_size
        for file in (agent.folder / "state" / "artifacts" / "sha256").rglob("*")
        if file.is_file()
    )
    assert files <= spent["artifacts"]["bytes_in"] <= files * 1.1 + 300_000
    assert spent["metadata"]["bytes_in"] > 0
    assert spent["reported"]["bytes_out"] > 0
    assert spent["desired"]["bytes_in"] > 0
    told = fleet.devices()["camera-1"]
    assert {each["purpose"] for each in told["traffic"]} <= set(spent)


def way_of(agent: Agent) -> str | None:
    found = deployment(agent)
    return found.progress.way if found is not None and found.progress is not None else None
