"""How the device stands: what its kernel says of power, heat, room and the way out."""

from fnmatch import fnmatchcase
from pathlib import Path

import psutil

from agent.config import AgentConfig
from agent.config_file import maintenance_schedule
from agent.core.preconditions import Battery, Conditions, Facts
from agent.supervisor.health import temperature_c

ROUTES = Path("/proc/net/route")
ROUTES_IPV6 = Path("/proc/net/ipv6_route")
_UP = 1
_MIB = 1024 * 1024
_IPV6_COLUMNS = 10


def conditions_of(config: AgentConfig) -> Conditions:
    """What the device's owner asks for.

    Raises:
        ConfigError: the maintenance windows can't be read by the clock of their zone.
    """
    updates = config.updates
    return Conditions(
        schedule=maintenance_schedule(updates),
        download_in_windows=updates.downloads == "in-windows",
        metered_interfaces=updates.metered_interfaces if updates.metered == "wait" else (),
        minimum_free_mib=updates.minimum_free_mib,
        minimum_battery_percent=updates.minimum_battery_percent,
        maximum_temperature_c=updates.maximum_temperature_c,
        operator=updates.approval == "operator",
    )


def gather(conditions: Conditions, state: Path, *, now: float, earliest: float) -> Facts:
    """The facts that ``conditions`` need, and no others: a sensor that nobody asks for is not read.

    ``now``: Unix seconds by the device's clock; ``earliest``: before it no right clock can be. Reads files of the
    kernel's, so not on the event loop. What can't be read is None.
    """
    return Facts(
        now=now,
        clock_set=now >= earliest,
        interface=default_interface() if conditions.metered_interfaces else None,
        battery=_battery() if conditions.minimum_battery_percent else None,
        temperature_c=_temperature() if conditions.maximum_temperature_c is not None else None,
        free_mib=_free_mib(state) if conditions.minimum_free_mib else None,
    )


def is_metered(patterns: tuple[str, ...]) -> bool:
    """Whether the default route goes by an interface that costs by the byte. Reads files of the kernel's, as above."""
    if not patterns:
        return False
    name = default_interface()
    return name is not None and any(fnmatchcase(name, pattern) for pattern in patterns)


def default_interface(ipv4: Path = ROUTES, ipv6: Path = ROUTES_IPV6) -> str | None:
    """The interface that the default route of the lowest metric goes by, IPv4 before IPv6; None where there is none.

    It is the way to the hub unless a route of its own was made to it.
    """
    return _lowest(_ipv4_routes(ipv4)) or _lowest(_ipv6_routes(ipv6))


def _lowest(routes: list[tuple[int, str]]) -> str | None:
    return min(routes)[1] if routes else None


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    except OSError:
        return []


def _ipv4_routes(path: Path) -> list[tuple[int, str]]:
    """Columns: Iface, Destination, Gateway, Flags, RefCnt, Use, Metric, Mask, … (hexadecimal but for the metric)."""
    rows = [row for row in _lines(path)[1:] if len(row) > 7]  # noqa: PLR2004 - the mask is the eighth
    return [
        (int(row[6]), row[0])
        for row in rows
        if row[1] == "00000000" and row[7] == "00000000" and int(row[3], 16) & _UP
    ]


def _ipv6_routes(path: Path) -> list[tuple[int, str]]:
    """Columns: destination, its prefix length, …, metric (sixth), …, flags (ninth), interface (all hexadecimal)."""
    rows = [row for row in _lines(path) if len(row) == _IPV6_COLUMNS]
    nowhere = "0" * 32
    return [
        (int(row[5], 16), row[9])
        for row in rows
        if row[0] == nowhere and row[1] == "00" and int(row[8], 16) & _UP and row[9] != "lo"
    ]


def _battery() -> Battery | None:
    try:
        found = psutil.sensors_battery()
    except (OSError, ValueError):  # a driver that answers nonsense
        return None
    if found is None:
        return None
    # None: not known; a device that can't tell is not held up for ever.
    return Battery(percent=found.percent, plugged=found.power_plugged is not False)


def _temperature() -> float | None:
    try:
        return temperature_c()
    except (OSError, ValueError):
        return None


def _free_mib(folder: Path) -> float | None:
    try:
        return float(psutil.disk_usage(str(folder)).free) / _MIB
    except OSError:
        return None
