"""What should be noticed now. Pure: facts in, findings out; :mod:`cloud_hub.retraining.notices` keeps them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from agent.protocol.state import OutboxReport
from cloud_hub.labels.accuracy import UnusableLabels

HOUR = 3_600.0
FEWEST_LABELS = 100
"""Before they are laid beside an estimate."""
QUIET_SECONDS = 86_400.0
"""A count that has not grown for so long is history."""

Severity = Literal["info", "warning", "error"]


class Found(Struct, frozen=True, kw_only=True):
    """One notice that should stand now."""

    kind: str
    subject: str
    severity: Severity
    text: str
    to_do: str
    since: float


class DeviceFacts(Struct, frozen=True, kw_only=True):
    """What is known of one device that is enrolled and not revoked."""

    device: str
    enrolled: float
    online: bool
    heard: float | None
    """When its newest telemetry came."""
    outbox: OutboxReport | None


class NewestFacts(Struct, frozen=True, kw_only=True):
    """Of one device's newest window (the whole, not a slice)."""

    device: str
    model: str
    release: int
    level: str
    claimed: str
    level_since: float
    received: float
    problem: str | None


class BrokenFacts(Struct, frozen=True, kw_only=True):
    """Of a device and model of which incomplete windows come, and no complete one."""

    device: str
    model: str
    windows: int
    """Incomplete, of the days looked at."""
    since: float
    """When the last complete window came, or the day of the first incomplete one began."""


class LabelFacts(Struct, frozen=True, kw_only=True):
    """Labels of people and systems over the fleet, beside what was estimated."""

    model: str
    release: int
    rows: int
    accuracy: float
    low: float
    high: float
    estimated: float
    estimated_low: float
    estimated_high: float


def silent(devices: Iterable[DeviceFacts], now: float, hours: float) -> list[Found]:
    """Devices of which no telemetry came for ``hours``."""
    found = []
    for device in devices:
        last = device.heard if device.heard is not None else device.enrolled
        if now - last < hours * HOUR:
            continue
        never = device.heard is None
        what = "has never sent telemetry" if never else f"has sent no telemetry for {_span(now - last)}"
        found.append(
            Found(
                kind="silent-device",
                subject=device.device,
                severity="warning",
                text=f"{device.device} {what}, {'though it is online' if device.online else 'and is offline'}.",
                to_do="On the device: edgeward status, edgeward events; see that its outbox reaches the hub."
                if device.online
                else "Check its power and its network; it goes on serving and keeps its records.",
                since=last + hours * HOUR,
            )
        )
    return found


def unjudged(newest: Iterable[NewestFacts], now: float, hours: float) -> list[Found]:
    """Devices whose windows have had too few rows for ``hours``; those that send nothing are silent, not this."""
    return [
        Found(
            kind="insufficient-data",
            subject=f"{each.device} {each.model}",
            severity="info",
            text=f"{each.device}: {each.model} {each.release} has had insufficient data for a verdict for "
            f"{_span(now - each.level_since)}.",
            to_do="If it has few requests, lengthen the windows in the release's drift policy (window_seconds); "
            "if it should have many, see who asks it.",
            since=each.level_since + hours * HOUR,
        )
        for each in newest
        if each.level == "insufficient data" and now - each.level_since >= hours * HOUR
    ]


def broken(devices: Iterable[BrokenFacts], now: float, hours: float) -> list[Found]:
    """Devices of which no window has been complete for ``hours``: something ends each before its time."""
    return [
        Found(
            kind="incomplete-windows",
            subject=f"{each.device} {each.model}",
            severity="warning",
            text=f"{each.device}: no window of {each.model} has been complete for {_span(now - each.since)}; "
            f"{each.windows} came that were cut short, so there is no verdict.",
            to_do="Its runner or the device ends again and again: edgeward events on the device says why. If it is switched off "
            "daily, shorten the windows in the release's drift policy (window_seconds).",
            since=each.since + hours * HOUR,
        )
        for each in devices
        if now - each.since >= hours * HOUR
    ]


def doubtful(newest: Iterable[NewestFacts]) -> list[Found]:
    """Devices whose counts can't be used, or say something else than the device says."""
    found = []
    for each in newest:
        name = f"{each.device} {each.model}"
        if each.problem is not None and not each.level and "does not hold" not in each.problem:
            text = f"{each.device}: its windows of {each.model} {each.release} can't be used: {each.problem}"
            found.append(
                Found(
                    kind="unusable-windows",
                    subject=name,
                    severity="error",
                    text=text,
                    to_do=_SUSPECT,
                    since=each.received,
                )
            )
        elif each.level and each.claimed != each.level:
            text = f"{each.device} says {each.claimed} of {each.model} {each.release}; by its own counts it is {each.level}."
            found.append(
                Found(
                    kind="verdict-disagrees",
                    subject=name,
                    severity="warning",
                    text=text,
                    to_do=_SUSPECT,
                    since=each.received,
                )
            )
    return found


_SUSPECT = "Look at the device: it is broken, or somebody else speaks with its key. It does not count in the fleet's verdict beyond its share."


def lost(devices: Iterable[DeviceFacts], before: Mapping[str, tuple[str, float]], now: float) -> list[Found]:
    """Devices that dropped telemetry. A count that has not grown for a day is no news any more.

    ``before``: device → text and time of the notice that stands, or stood last.
    """
    found = []
    for device in devices:
        outbox = device.outbox
        dropped = {kind: count for kind, count in outbox.dropped.items() if count} if outbox else {}
        if outbox is None or not dropped:
            continue
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(dropped.items()))
        text = f"{device.device} has dropped {sum(dropped.values())} telemetry records: {kinds}."
        known = before.get(device.device)
        if known is not None and known[0] == text and now - known[1] >= QUIET_SECONDS:
            continue
        to_do = (
            "A record was too large to send: lower the number of signals or bins of the model's drift reference."
            if outbox.quarantined and set(dropped) <= {"oversized"}
            else "Give it network or space; what was dropped is counted, and windows were merged before."
        )
        found.append(
            Found(
                kind="lost-telemetry",
                subject=device.device,
                severity="warning",
                text=text,
                to_do=to_do,
                since=now,
            )
        )
    return found


def contradicted(labels: Iterable[LabelFacts], now: float) -> list[Found]:
    """Releases whose estimated accuracy does not hold before the labels that came."""
    return [
        Found(
            kind="estimate-contradicted",
            subject=f"{each.model} {each.release}",
            severity="warning",
            text=f"{each.model} {each.release}: {each.rows} labels say accuracy {each.accuracy:.3f} "
            f"({each.low:.3f}-{each.high:.3f}), the estimate without labels says {each.estimated:.3f} "
            f"({each.estimated_low:.3f}-{each.estimated_high:.3f}).",
            to_do="Believe the labels. The model's confidences no longer mean what they did: calibrate or retrain it.",
            since=now,
        )
        for each in labels
        if each.rows >= FEWEST_LABELS and (each.high < each.estimated_low or each.low > each.estimated_high)
    ]


def unusable(labels: Iterable[UnusableLabels], now: float) -> list[Found]:
    """Devices whose label counts can't be true."""
    return [
        Found(
            kind="unusable-labels",
            subject=f"{each.device} {each.model}",
            severity="error",
            text=f"{each.device}: {each.records} of its label records of {each.model} can't be used: {each.why}.",
            to_do="Look at the device: it is broken, or somebody else speaks with its key. These records count nowhere.",
            since=now,
        )
        for each in labels
    ]


def failed(kinds: Mapping[str, str], now: float) -> list[Found]:
    """Kinds of notices that could not be looked for. ``kinds``: kind → the error."""
    return [
        Found(
            kind="notices-failed",
            subject=kind,
            severity="error",
            text=f"The hub could not look for what {kind} stands for: {error}.",
            to_do="See the hub's log, and tell its makers; what stood before stays as it was.",
            since=now,
        )
        for kind, error in sorted(kinds.items())
    ]


def undelivered(failures: Mapping[str, int], now: float) -> list[Found]:
    """Webhooks that did not arrive."""
    if not failures:
        return []
    kinds = ", ".join(f"{count} {outcome}" for outcome, count in sorted(failures.items()))
    return [
        Found(
            kind="webhooks-undelivered",
            subject="hub",
            severity="warning",
            text=f"Webhooks did not arrive in the last seven days: {kinds}.",
            to_do="See edgeward-hub webhooks; check the receiver, or [webhooks] in hub.toml.",
            since=now,
        )
    ]


def everything(*parts: Sequence[Found]) -> dict[tuple[str, str], Found]:
    """By kind and subject."""
    return {(found.kind, found.subject): found for part in parts for found in part}


def _span(seconds: float) -> str:
    hours = seconds / HOUR
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"  # noqa: PLR2004 - three days are counted in hours
