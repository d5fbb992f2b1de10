"""How the device itself is: one health record from psutil."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from agent.protocol.telemetry import Health
from agent.supervisor.memory import MIB, pss_mib

_PROCESSOR_SENSORS = ("coretemp", "k10temp", "cpu_thermal", "cpu-thermal", "soc_thermal", "zenpower")
"""Names by which kernels call the processor's own sensor."""


def sample(paths: Iterable[Path]) -> Health:
    """Measure now.

    ``paths`` are the folders the agent writes to; the file system with the least room is the one reported. CPU use is the
    mean since the last call (the first: since this module was imported), in percent of all cores. The temperature is the
    hottest processor sensor's, in °C, or the hottest of all where none is named so; None where the device has none.
    """
    return Health(
        time=time.time(),
        cpu_percent=float(psutil.cpu_percent(interval=None)),
        memory_available_mib=float(psutil.virtual_memory().available) / MIB,
        disk_free_mib=min(float(psutil.disk_usage(str(path)).free) for path in paths) / MIB,
        temperature_c=temperature_c(),
        supervisor_pss_mib=pss_mib(os.getpid()),
    )


def temperature_c() -> float | None:
    """The processor's temperature now, °C; see :func:`sample`."""
    sensors = psutil.sensors_temperatures()
    named = [sensors[name] for name in _PROCESSOR_SENSORS if name in sensors]
    readings = [float(each.current) for group in (named or sensors.values()) for each in group]
    return max(readings, default=None)
