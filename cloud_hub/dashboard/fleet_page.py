"""The first page: what is wrong, what to do first, and how the fleet stands. Pure over what was read."""

from collections.abc import Sequence

from msgspec import Struct

from agent.protocol.drift_words import percent
from cloud_hub.audit.chain import AuditEntry
from cloud_hub.dashboard import addresses, heat, words
from cloud_hub.dashboard.device_rows import DeviceRow, row, urgency, worst_first
from cloud_hub.dashboard.heat import ByDay, HeatTable
from cloud_hub.dashboard.rollout_cards import RolloutCard, card
from cloud_hub.dashboard.told import SHOWN, Headline, Told, grouped, headline, worst_of
from cloud_hub.fleet.service import Finding, FleetFacts, FleetSummary, summarise
from cloud_hub.registry.service import ReleaseState
from cloud_hub.telemetry.views import FleetDayView, FleetEstimate, FleetOverview, HeatMap, ReleaseLine

DEVICES_SHOWN = 12
"""The worst; all of them have a page."""
HEAT_SHOWN = 20


class ReleaseCard(Struct, frozen=True, kw_only=True):
    """How one release's input looks, over the fleet."""

    line: ReleaseLine
    link: str
    accuracy: str
    """In words; "" where it is not estimated."""
    newest: str


class FleetPage(Struct, frozen=True, kw_only=True):
    summary: FleetSummary
    headline: Headline
    told: tuple[Told, ...]
    more: tuple[Told, ...]
    """Folded away."""
    releases: tuple[ReleaseCard, ...]
    by_day: ByDay | None
    heat: HeatTable | None
    heat_of: str
    heat_link: str
    heat_left: int
    """Devices that are not in the heat map here."""
    rollouts: tuple[RolloutCard, ...]
    """Those that are open, or else the newest."""
    approved: int
    devices: tuple[DeviceRow, ...]
    devices_left: int
    audit: tuple[tuple[str, AuditEntry], ...]


def build(
    facts: FleetFacts,
    overview: FleetOverview,
    map_: HeatMap | None,
    days: Sequence[FleetDayView],
    audit: Sequence[AuditEntry],
    more: Sequence[Finding] = (),
) -> FleetPage:
    """The whole page. ``map_``, ``days``: of the release that needs a look most; ``more``: findings beside the summary's."""
    summary = summarise(facts)
    told = grouped(worst_of([*more, *summary.findings]), _pages(facts))
    devices = worst_first(facts.devices, urgency(summary.findings))
    rollouts = [card(view) for view in facts.rollouts]
    shown = [each for each in rollouts if each.open] or rollouts[:1]
    table = None if map_ is None else heat.table(map_, HEAT_SHOWN)
    line = None if map_ is None else line_of(overview, map_)
    return FleetPage(
        summary=summary,
        headline=headline(told),
        told=told[:SHOWN],
        more=told[SHOWN:],
        releases=tuple(release_card(each, overview.time) for each in overview.releases),
        by_day=heat.by_day(days, map_.days, f"{line.model} {line.release}") if line and map_ else None,
        heat=table,
        heat_of="" if map_ is None else f"{map_.model} {map_.release}",
        heat_link="" if map_ is None else addresses.release(map_.model, map_.release),
        heat_left=0 if line is None or table is None else max(0, line.devices - (len(table.rows) - 1)),
        rollouts=tuple(shown),
        approved=sum(release.state is ReleaseState.PUBLISHED for release in facts.releases),
        devices=tuple(row(view, facts.counts, facts.now) for view in devices[:DEVICES_SHOWN]),
        devices_left=max(0, len(devices) - DEVICES_SHOWN),
        audit=tuple((words.ago(facts.now - entry.time), entry) for entry in audit),
    )


def _pages(facts: FleetFacts) -> dict[str, str]:
    """By the names that findings use."""
    releases = {
        f"{each.model} {each.release}": addresses.release(each.model, each.release) for each in facts.releases
    }
    return releases | {each.id: addresses.device(each.id) for each in facts.devices}


def line_of(overview: FleetOverview, map_: HeatMap) -> ReleaseLine | None:
    return next(
        (line for line in overview.releases if (line.model, line.release) == (map_.model, map_.release)),
        None,
    )


def needs_a_look(overview: FleetOverview) -> ReleaseLine | None:
    """The release whose heat map the first page shows: most devices that drift, then that move, then most devices."""
    return max(
        overview.releases,
        key=lambda line: (line.levels.get("drift", 0), line.levels.get("warning", 0), line.devices),
        default=None,
    )


def release_card(line: ReleaseLine, now: float) -> ReleaseCard:
    return ReleaseCard(
        line=line,
        link=addresses.release(line.model, line.release),
        accuracy=estimated(line.estimate),
        newest=words.ago(now - line.newest),
    )


def estimated(estimate: FleetEstimate | None) -> str:
    """``about 93.1 % right, by estimate (91.8 - 94.2 %, 4 devices)``."""
    if estimate is None:
        return ""
    low, high = f"{estimate.low * 100:.1f}", percent(estimate.high)
    return (
        f"about {percent(estimate.accuracy)} right, by estimate "
        f"({low} to {high}, {words.many(estimate.devices, 'device')})"
    )
