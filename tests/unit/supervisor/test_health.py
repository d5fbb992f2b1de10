import os
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from agent.protocol.codec import decode_json, encode_json
from agent.protocol.telemetry import Health
from agent.supervisor.health import sample, temperature_c, thermal


def test_a_sample_agrees_with_the_system(tmp_path: Path) -> None:
    health = sample([tmp_path])
    assert health.time == pytest.approx(time.time(), abs=5)
    assert 0 <= health.cpu_percent <= 100
    stat = os.statvfs(tmp_path)
    assert health.disk_free_mib == pytest.approx(stat.f_bavail * stat.f_frsize / 2**20, rel=0.05)
    assert 0 < health.memory_available_mib < psutil.virtual_memory().total / 2**20
    assert 5 < health.supervisor_pss_mib < 2_000
    assert health.load == pytest.approx(os.getloadavg()[0] / (os.cpu_count() or 1), abs=0.5)
    assert health.thermal in {None, "ok", "hot", "critical"}


def test_it_travels_as_telemetry(tmp_path: Path) -> None:
    health = sample([tmp_path])
    assert decode_json(encode_json(health), Health) == health


def test_the_fullest_file_system_counts(tmp_path: Path) -> None:
    paths = [tmp_path, Path("/dev/shm")]
    free = [os.statvfs(path).f_bavail * os.statvfs(path).f_frsize / 2**20 for path in paths]
    assert sample(paths).disk_free_mib == pytest.approx(min(free), rel=0.05)


def _reading(celsius: float, high: float | None = None, critical: float | None = None) -> SimpleNamespace:
    return SimpleNamespace(current=celsius, high=high, critical=critical)


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


def _zone(folder: Path, number: int, temperature: str, **trips: int) -> None:
    """As the kernel lays out a thermal zone, in thousandths of a degree."""
    zone = folder / f"thermal_zone{number}"
    zone.mkdir(parents=True)
    (zone / "temp").write_text(temperature)
    for index, (kind, at) in enumerate(trips.items()):
        (zone / f"trip_point_{index}_type").write_text(f"{kind}\n")
        (zone / f"trip_point_{index}_temp").write_text(f"{at}\n")


@pytest.mark.parametrize(
    ("temperature", "level"),
    [("54900\n", "ok"), ("80000\n", "hot"), ("84999\n", "hot"), ("85000\n", "critical"), ("", None)],
)
def test_the_kernel_s_trip_points_say_how_hot_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temperature: str, level: str | None
) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", dict)
    _zone(tmp_path, 0, temperature, active=50_000, passive=80_000, critical=85_000)
    assert thermal(tmp_path) == level


def test_the_worst_zone_counts_and_absent_trip_points_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", dict)
    _zone(tmp_path, 0, "40000", critical=0, passive=-274_000)
    assert thermal(tmp_path) is None
    _zone(tmp_path, 1, "40000", hot=90_000)
    assert thermal(tmp_path) == "ok"
    _zone(tmp_path, 2, "95000", hot=90_000)
    assert thermal(tmp_path) == "hot"


@pytest.mark.parametrize(
    ("reading", "level"),
    [
        (_reading(60.0), None),
        (_reading(60.0, high=80.0, critical=100.0), "ok"),
        (_reading(80.0, high=80.0, critical=100.0), "hot"),
        (_reading(101.0, high=80.0, critical=100.0), "critical"),
        (_reading(60.0, high=0.0), None),
    ],
)
def test_a_sensor_s_own_limits_count_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: SimpleNamespace, level: str | None
) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: {"coretemp": [reading]})
    assert thermal(tmp_path) == level
