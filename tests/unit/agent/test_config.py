"""Every wrong setting is refused with its full name, its value and what is allowed."""

from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from agent import config_file
from agent.config import AgentConfig
from agent.config_file import load_config, parse_config
from agent.errors import ConfigError

DEVICE = '[device]\nid = "camera-1"\nhardware_class = "cpu"\n'


def refusal_of(text: str) -> str:
    with pytest.raises(ConfigError) as refusal:
        parse_config(text, source="agent.toml")
    return str(refusal.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            DEVICE + '[serving]\ncolour = "red"\n',
            ["serving.colour = 'red'", "no such setting", "address", "threads"],
        ),
        (
            DEVICE + "[severing]\n",
            ["severing = {}", "no such setting", "device, serving, probe, telemetry, "],
        ),
        (DEVICE + "[serving]\nthreads = 0\n", ["serving.threads = 0", "a whole number ≥ 1"]),
        (DEVICE + '[serving]\nthreads = "two"\n', ["serving.threads = 'two'", "a whole number ≥ 1"]),
        (DEVICE + "[serving]\ndrain_seconds = inf\n", ["serving.drain_seconds = inf", "> 0, ≤ 1000000000"]),
        (DEVICE + "[serving]\ndrain_seconds = nan\n", ["serving.drain_seconds = nan", "a number > 0"]),
        (DEVICE + "[serving]\nnice = 20\n", ["serving.nice = 20", "≥ 0, ≤ 19"]),
        (
            DEVICE + "[serving]\nstuck_seconds = 2\ndeadline_ms = 2000\n",
            ["serving.stuck_seconds = 2", "more than serving.deadline_ms, 2 s"],
        ),
        (DEVICE + "[probe]\nwarmup = 1.5\n", ["probe.warmup = 1.5", "a whole number ≥ 1"]),
        (DEVICE + '[log]\nlevel = "loud"\n', ["log.level = 'loud'", '"debug", "error", "info", "warning"']),
        (DEVICE + "log = 3\n", ["device.log = 3", "no such setting", "id, hardware_class"]),
        ("log = 3\n" + DEVICE, ["log = 3", "a table, [log]"]),
        (DEVICE + '[serving]\naddress = "8600"\n', ["serving.address = '8600'", "host:port"]),
        (DEVICE + '[serving]\naddress = "h:1\\n"\n', ["serving.address = 'h:1\\n'", "host:port"]),
        (DEVICE + '[serving]\naddress = "h:0"\n', ["serving.address = 'h:0'", "1-65535"]),
        (DEVICE + '[serving]\naddress = "h:70000"\n', ["serving.address = 'h:70000'", "1-65535"]),
        (
            '[device]\nid = "Camera 1"\nhardware_class = "cpu"\n',
            ["device.id = 'Camera 1'", "1-64 of a-z 0-9"],
        ),
        ('[device]\nid = "camera\\n"\nhardware_class = "cpu"\n', ["device.id = 'camera\\n'"]),
        ('[device]\nid = "camera-1"\n', ["device.hardware_class: is missing", "1-64 of a-z 0-9"]),
        ("", ["device.id: is missing and has no default"]),
        ("device\n", ["not TOML", "line 1"]),
        ("a = " + "[" * 3_000, ["not TOML"]),
        ("a = " + "1" * 5_000, ["not TOML"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(text: str, said: list[str]) -> None:
    message = refusal_of(text)
    assert message.startswith("agent.toml: ")
    for part in said:
        assert part in message


def test_the_smallest_file_has_a_default_for_everything_else() -> None:
    config = parse_config(DEVICE, source="agent.toml")
    assert config == AgentConfig(device=config.device)
    assert config.control_socket == Path("/run/edgeward/control.sock")


def test_a_setting_overrides_its_default_and_no_other() -> None:
    config = parse_config(DEVICE + "[telemetry]\nsend_seconds = 2\n", source="agent.toml")
    assert config.telemetry.send_seconds == 2.0
    assert config.telemetry.report_seconds == 60.0


def test_a_file_that_cant_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: can't be read: .*No such file"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b'a = "\xff"')
    with pytest.raises(ConfigError, match=r"latin\.toml: can't be read"):
        load_config(tmp_path / "latin.toml")


WINDOW = '[updates]\nwindows = ["Sat 02:00-04:00"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[updates]\nwindows = ["sat 2-4"]\n', ["updates.windows = ['sat 2-4']", "Sat,Sun 22:00-04:00"]),
        (
            '[updates]\nwindows = ["Sat 02:00-02:00"]\n',
            ["updates.windows = 'Sat 02:00-02:00'", "for whole days write 00:00-24:00"],
        ),
        (f'{WINDOW}timezone = "Berlin"\n', ["updates.timezone = 'Berlin'", "'Europe/Berlin'"]),
        (
            f'{WINDOW}timezone = "../etc/passwd"\n',
            ["updates.timezone = '../etc/passwd'", "no such time zone"],
        ),
        ('[updates]\ndownloads = "in-windows"\n', ["updates.downloads", "set updates.windows"]),
        ('[updates]\napproval = "maria"\n', ["updates.approval = 'maria'", '"automatic", "operator"']),
        ("[updates]\nminimum_battery_percent = 101\n", ["minimum_battery_percent = 101", "≤ 100"]),
    ],
)
def test_what_an_owner_can_get_wrong_about_updates(text: str, said: list[str]) -> None:
    refusal = refusal_of(DEVICE + text)
    for words in said:
        assert words in refusal


def test_a_device_without_time_zone_data_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> set[str]:
        return set()

    def unknown(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(config_file, "ZoneInfo", unknown)
    monkeypatch.setattr(config_file, "available_timezones", nothing)
    assert "no time zone data; install tzdata" in refusal_of(f'{DEVICE}{WINDOW}timezone = "Europe/Berlin"\n')
    parse_config(DEVICE + WINDOW, source="agent.toml")  # UTC needs none


def test_keeping_inputs_is_said_when_the_file_is_checked() -> None:
    def notes(text: str) -> str:
        return " ".join(parse_config(DEVICE + text, source="agent.toml").samples.notes())

    assert notes("") == ""
    assert "stay there" in notes("[samples]\nenabled = true\n")
    assert "may leave" in notes("[samples]\nenabled = true\nmay_leave = true\n")
    assert "kept before" in notes("[samples]\nmay_leave = true\n")
