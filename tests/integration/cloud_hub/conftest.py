"""A real hub process with its embedded broker, and a device that speaks the protocol with paho."""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.protocol.topics import FROM_HUB, Channel, parse_topic, topic
from cloud_hub import setup
from cloud_hub.access.service import Role
from cloud_hub.cli.ceremony import hold_ceremony
from cloud_hub.config import load_config
from tests.support.ports import free_port
from tests.unit.cloud_hub.hub_world import APPROVERS, People

PATIENCE = 60.0


class HubProcess:
    """``edgeward-hub serve`` in a process of its own."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", "import sys; from cloud_hub.cli import main; sys.exit(main())"]
        with (self.home / "hub.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "serve", "--config", str(self.home / "hub.toml")], stderr=log, stdout=log
            )
        until(self._up, "the hub answers and has its broker")

    def _up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.home / "hub.log").read_text()
        try:
            return bool(httpx.get(f"{self.url}/health").json()["broker_connected"])
        except httpx.TransportError:
            return False

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self._process is not None
        os.kill(self._process.pid, number)
        return self._process.wait(timeout=15)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill(signal.SIGTERM)


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition of another process, which has no event to wait for."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain until {what}"
        time.sleep(0.05)


class WireDevice:
    """A device's side of the protocol; what the hub sends waits in ``inbox``."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.inbox: queue.Queue[tuple[Channel, bytes, bool]] = queue.Queue()
        self._ready: queue.Queue[bool] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._ready.put(True)
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.wait_ready()

    def wait_ready(self) -> None:
        self._ready.get(timeout=PATIENCE)

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([(topic(self.name, channel), 1) for channel in FROM_HUB])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self.inbox.put((parse_topic(message.topic)[1], bytes(message.payload), message.retain))

    def send(self, channel: Channel | str, payload: bytes, *, device: str | None = None) -> None:
        retain = channel in (Channel.REPORTED, Channel.PRESENCE)
        name = f"edgeward/v1/{device or self.name}/{channel}"
        self._client.publish(name, payload, qos=1, retain=retain).wait_for_publish(PATIENCE)

    def expect(self, channel: Channel) -> bytes:
        """The next message on ``channel``; others are passed over."""
        while True:
            found, payload, _retained = self.inbox.get(timeout=PATIENCE)
            if found is channel:
                return payload

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def hub_process(tmp_path: Path, ports: tuple[int, int]) -> Iterator[HubProcess]:
    home = tmp_path / "hub"
    setup.create_hub(home, host="127.0.0.1", port=ports[0], broker_port=ports[1], open_dashboard=False)
    _config, paths = load_config(home / "hub.toml")
    hold_ceremony(paths, tmp_path / "keys", approvers=APPROVERS, models=["digits"], root_keys=3, threshold=2)
    process = HubProcess(home, ports[0])
    process.start()
    yield process
    process.stop()


@pytest.fixture
def people(hub_process: HubProcess, tmp_path: Path) -> Iterator[People]:
    tokens = {
        role.value: setup.new_token(hub_process.home / "hub.db", name=f"the-{role}", role=role)
        for role in Role
        if role is not Role.ADMIN
    }
    with httpx.Client(base_url=hub_process.url, timeout=30) as client:
        yield People(client, tokens, tmp_path / "keys")


@pytest.fixture
def wire(people: People, ports: tuple[int, int]) -> Iterator[WireDevice]:
    """An enrolled device on the broker."""
    people.enrol("cam-1")
    device = WireDevice("cam-1", ports[1])
    yield device
    device.close()
