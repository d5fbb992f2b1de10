"""Transfers of real devices, cut, moved from one way to the other, taken up again: with the bytes on the wire counted."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.protocol.limits import BLOCK_BYTES
from agent.transport.asking import TransferSettings
from tests.integration.downloads.conftest import SIZE, DeviceProcess, World

WINDOW = TransferSettings().window * BLOCK_BYTES
OVERHEAD = 0.02
"""Of the bytes: MQTT's and msgpack's heads, TLS records, HTTP/2 frames."""
GREETING = 16 * 1024
"""Connecting: TLS, CONNECT, SUBSCRIBE, the location."""


@pytest.fixture
def quiet(world: World) -> World:
    for proxy in (world.http, world.mqtt):
        proxy.open_door()
        proxy.reset()
    return world


@pytest.fixture
def devices() -> Iterator[list[DeviceProcess]]:
    started: list[DeviceProcess] = []
    yield started
    for device in started:
        device.close()


def report(text: str) -> None:
    """A figure, for whoever runs the tests with ``-s``."""
    sys.stdout.write(f"\n{text}\n")


def check(world: World, end: dict[str, object]) -> None:
    assert "path" in end, end
    assert Path(str(end["path"])).read_bytes() == world.data


def test_over_http_2_with_the_hubs_own_authority(
    quiet: World, tmp_path: Path, devices: list[DeviceProcess]
) -> None:
    devices.append(device := quiet.device(tmp_path, "http"))
    end = device.end()
    check(quiet, end)
    assert (end["version"], end["arrived"]) == ("HTTP/2", SIZE)
    assert quiet.http.to_client <= SIZE * (1 + OVERHEAD) + GREETING
    assert quiet.mqtt.to_client < GREETING, "only the location came over MQTT"
    assert [line["way"] for line in device.lines[1:-1]] == ["http"] * (len(device.lines) - 2)


@pytest.mark.parametrize("way", ["http", "mqtt"])
def test_a_cut_transfer_goes_on_having_sent_again_no_more_than_a_window(
    way: str, quiet: World, tmp_path: Path, devices: list[DeviceProcess]
) -> None:
    proxy = quiet.http if way == "http" else quiet.mqtt
    proxy.cut_after(SIZE // 2)
    devices.append(device := quiet.device(tmp_path, way))
    end = device.end()
    check(quiet, end)
    assert proxy.was_cut.is_set()
    assert proxy.connections >= 2
    again = proxy.to_client - SIZE
    report(
        f"cut over {way}: {proxy.to_client} bytes to the device for {SIZE}: {again} more, a window is {WINDOW}"
    )
    assert again <= WINDOW + SIZE * OVERHEAD + 2 * GREETING
    assert end["arrived"] == SIZE, "nothing was written twice"


@pytest.mark.parametrize("way", ["http", "mqtt"])
def test_a_killed_process_goes_on_where_it_was(
    way: str, quiet: World, tmp_path: Path, devices: list[DeviceProcess]
) -> None:
    proxy = quiet.http if way == "http" else quiet.mqtt
    devices.append(first := quiet.device(tmp_path, way))
    for line in first:
        if line["done"] > SIZE // 3:
            first.kill()
            break
    (partial,) = (tmp_path / "partial").iterdir()
    kept = partial.stat().st_size
    assert kept >= SIZE // 3
    proxy.reset()
    devices.append(second := quiet.device(tmp_path, way))
    end = second.end()
    check(quiet, end)
    assert second.lines[0]["done"] == kept
    assert end["arrived"] == SIZE - kept
    assert proxy.to_client <= (SIZE - kept) * (1 + OVERHEAD) + WINDOW + GREETING


def test_http_goes_away_in_mid_file_and_mqtt_finishes(
    quiet: World, tmp_path: Path, devices: list[DeviceProcess]
) -> None:
    quiet.http.cut_after(SIZE // 2, stay_closed=True)
    devices.append(device := quiet.device(tmp_path, "http", "mqtt"))
    end = device.end()
    check(quiet, end)
    assert end["arrived"] == SIZE, "no byte twice"
    ways = [line["way"] for line in device.lines[1:-1] if line["way"]]
    assert (ways[0], ways[-1]) == ("http", "mqtt")
    assert quiet.mqtt.to_client < 0.6 * SIZE


def test_the_broker_goes_away_in_mid_file_and_http_finishes(
    quiet: World, tmp_path: Path, devices: list[DeviceProcess]
) -> None:
    quiet.mqtt.cut_after(SIZE // 2, stay_closed=True)
    devices.append(device := quiet.device(tmp_path, "mqtt", "http", offline_seconds=1.0))
    end = device.end()
    check(quiet, end)
    assert end["arrived"] == SIZE
    ways = [line["way"] for line in device.lines[1:-1] if line["way"]]
    assert (ways[0], ways[-1]) == ("mqtt", "http")


def test_what_nobody_has_is_said_with_how_often_it_was_asked_for(
    quiet: World, tmp_path: Path, devices: list[DeviceProcess]
) -> None:
    order = json.loads(quiet.order(tmp_path, "http", "mqtt", tries=2))
    order["sha256"] = "ab" * 32
    devices.append(device := DeviceProcess(json.dumps(order)))
    end = device.end()
    assert end["code"] == "fetch-failed"
    assert "http failed 2 times" in end["text"]
    assert "mqtt failed 2 times" in end["text"]
    assert f"the hub has no artifact {'ab' * 32}" in end["text"]
