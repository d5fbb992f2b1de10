"""What a device asks for before it downloads an update, and before it installs one. Pure: facts in, a reason out.

Everything that is missing is said at once, what a person can change first. Codes: ``held-on-device``, ``held-by-hub``,
``needs-operator``, ``clock-not-set``, ``outside-window``, ``metered-network``, ``low-battery``, ``too-hot``, ``low-disk``.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from msgspec import Struct
from msgspec.structs import replace

from agent.core.maintenance import Schedule, in_words
from agent.protocol.ids import UnixTime
from agent.protocol.state import Acceptance, Reason


class Conditions(Struct, frozen=True, kw_only=True):
    """What the device's owner asks for."""

    schedule: Schedule | None = None
    """None: at any time."""
    download_in_windows: bool = False
    metered_interfaces: tuple[str, ...] = ()
    """Names or patterns (``wwan*``) of interfaces that are not downloaded by."""
    minimum_free_mib: float = 0.0
    minimum_battery_percent: float = 0.0
    maximum_temperature_c: float | None = None
    operator: bool = False
    """An operator accepts each update on the device before it is installed."""


class Battery(Struct, frozen=True, kw_only=True):
    percent: float
    plugged: bool


class Facts(Struct, frozen=True, kw_only=True):
    """How the device stands now; None where it can't be told, and that never holds an update up."""

    now: UnixTime
    clock_set: bool = True
    """False: the clock is before what is known to have passed."""
    interface: str | None = None
    """By which the default route goes."""
    battery: Battery | None = None
    """None: the device runs on mains."""
    temperature_c: float | None = None
    """The processor's."""
    free_mib: float | None = None
    """Where updates are stored."""


class Order(Struct, frozen=True, kw_only=True):
    """What is asked of one model's deployment, by the hub and by people."""

    hold: Reason | None = None
    """A technician's, or the hub's."""
    urgent: bool = False
    """It replaces a release that was withdrawn."""
    accepted: Acceptance | None = None
    brought: bool = False
    """Its bytes came by a bundle: they are here."""


class Waiting(Struct, frozen=True, kw_only=True):
    """What is waited for."""

    reason: Reason
    until: UnixTime | None = None
    """When it is over by itself, if that is known."""


def judge_download(conditions: Conditions, facts: Facts, order: Order) -> Waiting | None:
    """Why no bytes may be fetched now; None: they may."""
    if order.brought:
        return _together(_said(order.hold))
    return _together(
        _said(
            order.hold,
            None if _skips_waiting(order) else _window(conditions, facts, conditions.download_in_windows),
            None if _skips_waiting(order) else _metered(conditions, facts),
            _disk(conditions, facts),
        )
    )


def judge_install(conditions: Conditions, facts: Facts, order: Order, model: str) -> Waiting | None:
    """Why what was fetched may not be installed now; None: it may."""
    now = order.accepted is not None and order.accepted.now
    return _together(
        _said(
            order.hold,
            _operator(conditions, order, model),
            None if _skips_waiting(order) else _window(conditions, facts, asked=True),
            None if now else _battery(conditions, facts),
            None if now else _heat(conditions, facts),
            _disk(conditions, facts),
        )
    )


def _skips_waiting(order: Order) -> bool:
    """A withdrawn release is not served until the next window, nor to save a megabyte."""
    return order.urgent or (order.accepted is not None and order.accepted.now)


def _said(*found: Waiting | Reason | None) -> Iterator[Waiting]:
    for each in found:
        if each is not None:
            yield Waiting(reason=each) if isinstance(each, Reason) else each


def _together(found: Iterable[Waiting]) -> Waiting | None:
    """The first one, with every other one in its text; when several are over is not known."""
    parts = list(found)
    if not parts:
        return None
    text = "; and ".join(part.reason.text for part in parts)
    until = parts[0].until if len(parts) == 1 else None
    return Waiting(reason=replace(parts[0].reason, text=text), until=until)


def _operator(conditions: Conditions, order: Order, model: str) -> Reason | None:
    if not conditions.operator or order.accepted is not None:
        return None
    text = f"an operator has to accept it on the device: edgeward accept {model}"
    return Reason(code="needs-operator", text=text)


def _window(conditions: Conditions, facts: Facts, asked: bool) -> Waiting | None:  # noqa: FBT001 - private
    schedule = conditions.schedule
    if schedule is None or not asked:
        return None
    if not facts.clock_set:
        shown = datetime.fromtimestamp(facts.now, UTC)
        text = f"the clock is not set (it says {shown:%Y-%m-%d %H:%M} UTC), and there is a maintenance window to keep"
        return Waiting(reason=Reason(code="clock-not-set", text=text))
    if schedule.is_open(facts.now):
        return None
    opening = schedule.next_opening(facts.now)
    if opening is None:
        text = f"the maintenance window {schedule.words()} does not open within two weeks"
    else:
        wait, shown_at = in_words(opening - facts.now), schedule.shown(opening)
        text = f"the maintenance window {schedule.words()} opens in {wait} ({shown_at})"
    return Waiting(reason=Reason(code="outside-window", text=text), until=opening)


def _metered(conditions: Conditions, facts: Facts) -> Reason | None:
    name = facts.interface
    if name is None or not any(fnmatchcase(name, pattern) for pattern in conditions.metered_interfaces):
        return None
    return Reason(code="metered-network", text=f"the default route goes by {name}, which is metered")


def _battery(conditions: Conditions, facts: Facts) -> Reason | None:
    battery, least = facts.battery, conditions.minimum_battery_percent
    if battery is None or battery.plugged or battery.percent >= least:
        return None
    text = f"the battery is at {battery.percent:.0f} %, {least:.0f} % or mains are asked for"
    return Reason(code="low-battery", text=text)


def _heat(conditions: Conditions, facts: Facts) -> Reason | None:
    seen, most = facts.temperature_c, conditions.maximum_temperature_c
    if seen is None or most is None or seen <= most:
        return None
    text = f"the processor is at {seen:.0f} °C, at most {most:.0f} °C is allowed"
    return Reason(code="too-hot", text=text)


def _disk(conditions: Conditions, facts: Facts) -> Reason | None:
    free, least = facts.free_mib, conditions.minimum_free_mib
    if free is None or free >= least:
        return None
    text = f"{free:.0f} MiB are free where updates are stored, {least:.0f} MiB are asked for"
    return Reason(code="low-disk", text=text)
