"""Reads the configuration file, and checks what its settings mean together."""

import tomllib
from collections.abc import Iterator
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec

from agent.config import (
    AgentConfig,
    OutputsConfig,
    ServingConfig,
    TransferConfig,
    UpdatesConfig,
    host_and_port,
    is_loopback,
)
from agent.core.maintenance import MaintenanceWindow, Schedule
from agent.errors import ConfigError
from agent.protocol.settings import wrong_setting

MAX_PORT = 65_535


def load_config(path: Path) -> AgentConfig:
    """Read and check the configuration file.

    Raises:
        ConfigError: it can't be read, is not TOML, or a setting is wrong; the text names the setting, its value
            and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    return parse_config(text, source=str(path))


def parse_config(text: str, *, source: str) -> AgentConfig:
    """Check the text of a configuration file; raises like :func:`load_config`."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not TOML: {error}") from error
    problem = wrong_setting(raw, AgentConfig)
    if problem:
        raise ConfigError(f"{source}: {problem}")
    config = msgspec.convert(raw, AgentConfig)
    _check_patience(config, source)
    maintenance_schedule(config.updates, source)
    _check_transfer(config.transfer, source)
    problem = next(_wrong_access(config.serving), "")
    if problem:
        raise ConfigError(f"{source}: {problem}")
    return config


def _check_patience(config: AgentConfig, source: str) -> None:
    """A request may take as long as its deadline."""
    deadline, stuck = config.serving.deadline_ms / 1e3, config.serving.stuck_seconds
    if stuck <= deadline:
        raise ConfigError(
            f"{source}: serving.stuck_seconds = {stuck:g}: must be more than serving.deadline_ms, {deadline:g} s"
        )


def _check_transfer(transfer: TransferConfig, source: str) -> None:
    """No transfer may be slow because it was told to be."""
    limit, minimum = transfer.limit_bytes_per_second, transfer.minimum_bytes_per_second
    if limit is not None and limit <= minimum:
        raise ConfigError(
            f"{source}: transfer.limit_bytes_per_second = {limit}: must be more than"
            f" transfer.minimum_bytes_per_second, {minimum}"
        )
    if len(set(transfer.order)) != len(transfer.order):
        raise ConfigError(f"{source}: transfer.order = {list(transfer.order)}: each way once")
    if transfer.longest_backoff_seconds < transfer.backoff_seconds:
        raise ConfigError(
            f"{source}: transfer.longest_backoff_seconds = {transfer.longest_backoff_seconds:g}: must not be less than"
            f" transfer.backoff_seconds, {transfer.backoff_seconds:g}"
        )


def maintenance_schedule(updates: UpdatesConfig, source: str = "agent.toml") -> Schedule | None:
    """The maintenance windows with their zone; None where there are none.

    Raises:
        ConfigError: a window has no length, the zone is not known, or this device has no time zone data at all.
    """
    zone = _zone(updates.timezone, source)
    windows = []
    for text in updates.windows:
        try:
            windows.append(MaintenanceWindow.parse(text))
        except ValueError as error:
            raise ConfigError(f"{source}: updates.windows = {text!r}: {error}") from error
    if updates.downloads == "in-windows" and not windows:
        raise ConfigError(f"{source}: updates.downloads = 'in-windows': there is none; set updates.windows")
    if not windows:
        return None
    return Schedule(windows=tuple(windows), zone=zone, zone_name=updates.timezone)


def _zone(name: str, source: str) -> tzinfo:
    if name == "UTC":  # needs no data
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        where = f"{source}: updates.timezone = {name!r}"
        if not available_timezones():
            text = f"{where}: this device has no time zone data; install tzdata, or set it to 'UTC'"
        else:
            text = f"{where}: no such time zone; allowed: an IANA name, for instance 'Europe/Berlin'"
        raise ConfigError(text) from error


def _wrong_access(serving: ServingConfig) -> Iterator[str]:
    """Walls that contradict each other, or would not stand."""
    if serving.address is None:
        if serving.tls is not None:
            yield "serving.tls: it is for serving.address, which is not set; set it, or leave both out"
    else:
        yield from _wrong_address(serving, serving.address)
    if serving.hosts and serving.tls is None:
        yield (
            f"serving.hosts = {list(serving.hosts)}: only with serving.tls; without it only loopback is listened on, and"
            " another name for that is how a web page would get in"
        )
    for model, outputs in serving.outputs.items():
        if outputs == OutputsConfig():
            yield f"serving.outputs.{model}: sets nothing; set decimals, top_k or both"


def _wrong_address(serving: ServingConfig, address: str) -> Iterator[str]:
    where = f"serving.address = {address!r}"
    if not 1 <= host_and_port(address)[1] <= MAX_PORT:
        yield f"{where}: the port must be 1-{MAX_PORT}"
    loopback = is_loopback(address)
    if loopback is None:
        yield f"{where}: expected an IP address of this device, or localhost; not a name"
        return
    if not loopback and serving.tls is None:
        yield (
            f"{where}: off loopback only with TLS, because whoever is on the way could read and change requests; set"
            " serving.tls.certificate and serving.tls.key, or listen on 127.0.0.1"
        )
    if not loopback and serving.shared_memory == "unix+tcp":
        yield (
            f"{where}: off loopback not with serving.shared_memory = 'unix+tcp': who comes from elsewhere could have this"
            " device's memory read and written; set it to 'unix' or 'off'"
        )
    budget = serving.query_budget
    if budget is not None and budget.tcp == "refused":
        yield (
            f"{where}: with serving.query_budget it would answer no inference, because over TCP nobody knows who asks; leave"
            " it out, or set serving.query_budget.tcp = 'shared': one user's budget for all who come over TCP together"
        )
