"""How the device was: samples of its health, for the technician; bounded by :mod:`agent.store.history`."""

import sqlite3

from agent.protocol.telemetry import Health


def insert_health(connection: sqlite3.Connection, sample: Health) -> None:
    """Within the caller's transaction: add one."""
    connection.execute(
        "INSERT INTO health (time, cpu_percent, memory_available_mib, disk_free_mib, temperature_c, thermal, load, "
        "supervisor_pss_mib) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(sample.time, sample.cpu_percent, sample.memory_available_mib, sample.disk_free_mib),
            *(sample.temperature_c, sample.thermal, sample.load, sample.supervisor_pss_mib),
        ),
    )
