"""All devices, the worst first, in pages; and one found by a part of its name."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from agent.protocol.telemetry import TelemetryCounts
from cloud_hub.dashboard import addresses
from cloud_hub.dashboard.device_rows import DeviceRow, row
from cloud_hub.devices.service import DeviceView

A_PAGE = 100


class DevicesPage(Struct, frozen=True, kw_only=True):
    find: str
    found: int
    whole: int
    rows: tuple[DeviceRow, ...]
    page: int
    pages: int
    before: str | None
    after: str | None


def build(
    devices: Sequence[DeviceView],
    counts: Mapping[str, tuple[TelemetryCounts, ...]],
    *,
    find: str,
    page: int,
    now: float,
) -> DevicesPage:
    """``devices`` in the order they are to be shown; ``page`` counts from 1, one beyond the last is the last."""
    wanted = [view for view in devices if _matches(view, find)]
    pages = max(1, -(-len(wanted) // A_PAGE))
    page = min(max(1, page), pages)
    return DevicesPage(
        find=find,
        found=len(wanted),
        whole=len(devices),
        rows=tuple(row(view, counts, now) for view in wanted[(page - 1) * A_PAGE : page * A_PAGE]),
        page=page,
        pages=pages,
        before=addresses.devices(find, page - 1) if page > 1 else None,
        after=addresses.devices(find, page + 1) if page < pages else None,
    )


def _matches(view: DeviceView, find: str) -> bool:
    """By name, hardware class or what it serves, in lower case."""
    serving = view.reported.serving if view.reported else ()
    names = [view.id, view.hardware_class, *(f"{each.model} {each.release}" for each in serving)]
    return any(find.casefold() in name.casefold() for name in names)
