"""What the kernel says, and what is made of nonsense."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from agent.config_file import parse_config
from agent.core.preconditions import Battery, Conditions, Facts
from agent.service import facts
from agent.service.facts import conditions_of, default_interface, gather, is_metered

IPV4 = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wwan0\t00000000\t0102000A\t0003\t0\t0\t700\t00000000\t0\t0\t0
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
down0\t00000000\t010200C0\t0002\t0\t0\t1\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
NOWHERE = "0" * 32
IPV6 = f"""\
fd{"0" * 30} 40 {NOWHERE} 00 {NOWHERE} 00000100 00000001 00000000 00000001     eth1
{NOWHERE} 00 {NOWHERE} 00 fe80{"0" * 28} 00000400 00000002 00000000 00000003     ppp0
{NOWHERE} 00 {NOWHERE} 00 {NOWHERE} ffffffff 00000001 00000000 00200200       lo
"""


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "interface"),
    [
        (IPV4, IPV6, "eth0"),
        (IPV4.replace("\t100\t", "\t900\t"), IPV6, "wwan0"),
        ("", IPV6, "ppp0"),
        (IPV4.splitlines()[0], "", None),
        ("nonsense\nof one line\n", "more nonsense", None),
        (None, None, None),
    ],
)
def test_the_default_route_of_the_lowest_metric(
    tmp_path: Path, ipv4: str | None, ipv6: str | None, interface: str | None
) -> None:
    paths = tmp_path / "route", tmp_path / "ipv6_route"
    for path, text in zip(paths, (ipv4, ipv6), strict=True):
        if text is not None:
            path.write_text(text)
    assert default_interface(*paths) == interface


def test_on_this_machine_every_fact_is_read_or_none() -> None:
    asked = Conditions(
        metered_interfaces=("x",), minimum_free_mib=1, minimum_battery_percent=1, maximum_temperature_c=1
    )
    found = gather(asked, Path("/"), now=5.0, earliest=6.0)
    assert (found.now, found.clock_set) == (5.0, False)
    assert found.free_mib is not None
    assert found.free_mib > 0
    assert found.interface is None or found.interface in psutil.net_if_addrs()


def test_what_nobody_asks_for_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("default_interface", "_battery", "_temperature", "_free_mib"):
        monkeypatch.setattr(facts, name, lambda *_: pytest.fail("read"))
    assert gather(Conditions(), Path("/"), now=7.0, earliest=6.0) == Facts(now=7.0)


@pytest.mark.parametrize(
    ("sensor", "battery"),
    [
        (None, None),
        ((14.0, 3600, False), Battery(percent=14, plugged=False)),
        ((14.0, 3600, True), Battery(percent=14, plugged=True)),
        ((14.0, 3600, None), Battery(percent=14, plugged=True)),
        (OSError(5, "Input/output error"), None),
    ],
)
def test_a_battery_that_cant_tell_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, sensor: Any, battery: Battery | None
) -> None:
    def read() -> Any:
        if isinstance(sensor, Exception):
            raise sensor
        return sensor and SimpleNamespace(percent=sensor[0], power_plugged=sensor[2])

    monkeypatch.setattr(psutil, "sensors_battery", read)
    found = gather(Conditions(minimum_battery_percent=20), Path("/"), now=5.0, earliest=1.0)
    assert found.battery == battery


def test_a_state_folder_that_is_gone_is_no_full_disk(tmp_path: Path) -> None:
    found = gather(Conditions(minimum_free_mib=20), tmp_path / "gone", now=5.0, earliest=1.0)
    assert found.free_mib is None


def test_the_settings_become_conditions() -> None:
    text = """
        [device]
        id = "camera-1"
        hardware_class = "cpu"
        [updates]
        approval = "operator"
        timezone = "Europe/Berlin"
        windows = ["Sat,Sun 02:00-04:00", "daily 22:00-23:00"]
        downloads = "in-windows"
        metered_interfaces = ["wwan*"]
        minimum_free_mib = 100
        minimum_battery_percent = 30
        maximum_temperature_c = 85
    """
    asked = conditions_of(parse_config(text, source="agent.toml"))
    assert asked.schedule is not None
    assert asked.schedule.words() == "Sat, Sun 02:00-04:00; daily 22:00-23:00 Europe/Berlin"
    expected = Conditions(
        download_in_windows=True,
        metered_interfaces=("wwan*",),
        minimum_free_mib=100,
        minimum_battery_percent=30,
        maximum_temperature_c=85,
        operator=True,
    )
    assert replace(asked, schedule=None) == expected
    allowed = conditions_of(parse_config(f'{text}\nmetered = "allow"', source="agent.toml"))
    assert allowed.metered_interfaces == ()


@pytest.mark.parametrize(
    ("patterns", "route", "metered"),
    [
        (("wwan*",), "wwan0", True),
        (("ppp?", "wwan*"), "eth0", False),
        (("*",), None, False),
        ((), "wwan0", False),
    ],
)
def test_a_line_is_metered_where_its_name_says_so(
    monkeypatch: pytest.MonkeyPatch,
    patterns: tuple[str, ...],
    route: str | None,
    metered: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(facts, "default_interface", lambda: route)
    assert is_metered(patterns) is metered
