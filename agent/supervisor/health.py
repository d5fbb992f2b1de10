"""How the device itself is: one health record from psutil."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import psutil

from agent.protocol.telemetry import Health, Thermal
from agent.supervisor.memory import MIB, pss_mib

_PROCESSOR_SENSORS = ("coretemp", "k10temp", "cpu_thermal", "cpu-thermal", "soc_thermal", "zenpower")
"""Names by which kernels call the processor's own sensor."""

_ZONES = Path("/sys/class/thermal")
_TRIPS: dict[str, Thermal] = {"passive": "hot", "hot": "hot", "critical": "critical"}
"""Kinds of the kernel's trip points. ``active`` is left out: a fan that starts is no trouble."""
_SEVERITY: dict[Thermal, int] = {"ok": 0, "hot": 1, "critical": 2}


def sample(paths: Iterable[Path]) -> Health:
    """Measure now.

    ``paths`` are the folders the agent writes to; the file system with the least room is the one reported. CPU use is the
    mean since the last call (the first: since this module was imported), in percent of all cores. The temperature is the
    hottest processor sensor's, in °C, or the hottest of all where none is named so; None where the device has none. For
    ``thermal`` see :func:`thermal`.
    """
    return Health(
        time=time.time(),
        cpu_percent=float(psutil.cpu_percent(interval=None)),
        memory_available_mib=float(psutil.virtual_memory().available) / MIB,
        disk_free_mib=min(float(psutil.disk_usage(str(path)).free) for path in paths) / MIB,
        temperature_c=temperature_c(),
        thermal=thermal(),
        load=psutil.getloadavg()[0] / (psutil.cpu_count() or 1),
        supervisor_pss_mib=pss_mib(os.getpid()),
    )


def temperature_c() -> float | None:
    """The processor's temperature now, °C; see :func:`sample`."""
    sensors = psutil.sensors_temperatures()
    named = [sensors[name] for name in _PROCESSOR_SENSORS if name in sensors]
    readings = [float(each.current) for group in (named or sensors.values()) for each in group]
    return max(readings, default=None)


def thermal(zones: Path = _ZONES) -> Thermal | None:
    """Whether any part of the device is too hot: the worst of what the kernel's thermal zones and the sensors say.

    A zone has trip points, above which the kernel throttles (``passive``), warns or switches off; a sensor has the limits
    that its maker gave it. None where neither is there.
    """
    levels = [*_zone_levels(zones), *_sensor_levels()]
    return max(levels, key=_SEVERITY.__getitem__, default=None)


def _zone_levels(zones: Path) -> Iterator[Thermal]:
    for zone in zones.glob("thermal_zone*"):
        now = _millidegrees(zone / "temp")
        if now is None:
            continue
        for kind in zone.glob("trip_point_*_type"):
            at = _millidegrees(kind.with_name(kind.name.replace("_type", "_temp")))
            level = _TRIPS.get(kind.read_text().strip())
            # Firmware without a trip point gives 0 or less.
            if level is not None and at is not None and at > 0:
                yield level if now >= at else "ok"


def _sensor_levels() -> Iterator[Thermal]:
    for sensors in psutil.sensors_temperatures().values():
        for sensor in sensors:
            for limit, level in ((sensor.high, "hot"), (sensor.critical, "critical")):
                if limit is not None and limit > 0:
                    yield cast("Thermal", level if sensor.current >= limit else "ok")


def _millidegrees(path: Path) -> int | None:
    """A reading of a zone; None where it can't be read just now (a sensor that sleeps says EAGAIN)."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
