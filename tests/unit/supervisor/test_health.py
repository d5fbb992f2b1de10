import os
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from agent.protocol.codec import decode_json, encode_json
from agent.protocol.telemetry import Health
from agent.supervisor.health import sample, temperature_c


def test_a_sample_agrees_with_the_system(tmp_path: Path) -> None:
    health = sample([tmp_path])
    assert health.time == pytest.approx(time.time(), abs=5)
    assert 0 <= health.cpu_percent <= 100
    stat = os.statvfs(tmp_path)
    assert health.disk_free_mib == pytest.approx(stat.f_bavail * stat.f_frsize / 2**20, rel=0.05)
    assert 0 < health.memory_available_mib < psutil.virtual_memory().total / 2**20
    assert 5 < health.supervisor_pss_mib < 2_000


def test_it_travels_as_telemetry(tmp_path: Path) -> None:
    health = sample([tmp_path])
    assert decode_json(encode_json(health), Health) == health


def test_the_fullest_file_system_counts(tmp_path: Path) -> None:
    paths = [tmp_path, Path("/dev/shm")]
    free = [os.statvfs(path).f_bavail * os.statvfs(path).f_frsize / 2**20 for path in paths]
    assert sample(paths).disk_free_mib == pytest.approx(min(free), rel=0.05)


def _reading(celsius: float) -> SimpleNamespace:
    return SimpleNamespace(current=celsius)


@pytest.mark.parametrize(
    ("sensors", "celsius"),
    [
        ({}, None),
        ({"nvme": [_reading(70.0)], "cpu_thermal": [_reading(48.2)]}, 48.2),
        ({"coretemp": [_reading(51.0), _reading(55.5)]}, 55.5),
        ({"acpitz": [_reading(40.0)], "pch": [_reading(44.0)]}, 44.0),
    ],
)
def test_the_processor_s_own_sensor_is_preferred(
    monkeypatch: pytest.MonkeyPatch, sensors: dict[str, list[SimpleNamespace]], celsius: float | None
) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors)
    assert temperature_c() == celsius
