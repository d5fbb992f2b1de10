"""What somebody should know of this device's trust before it stops updates: expiry, withdrawal, a wrong clock. Pure."""

from collections.abc import Collection
from datetime import UTC, datetime

from msgspec import Struct

from agent.core.trusted_time import BUILD_TIME, trusted_time
from agent.protocol.state import ModelRelease, Reason, RoleExpiry

DAY = 86_400.0
EARLY_DAYS = 14
"""People have to meet to sign a root, top-level targets or a model's role: two weeks leave time for a holiday."""
LATE_DAYS = 3
"""After the early warning was not heard: time for those who are there."""
ONLINE = frozenset({"timestamp", "snapshot", "director"})
"""The hub signs these anew by itself, so they are worth a word only when they were not."""
CLOCK_TOLERANCE = DAY
"""An honest hub signs its timestamp anew within its life of a day: a clock that is further from it is wrong, or the hub is."""


class TrustFacts(Struct, frozen=True, kw_only=True):
    """What is known; times in Unix seconds."""

    expiry: tuple[RoleExpiry, ...] = ()
    withdrawn: tuple[ModelRelease, ...] = ()
    system: float
    """This machine's clock."""
    hub: float
    """The newest time that the hub signed; 0: none."""
    hub_now: float = 0.0
    """The same, with what has passed since it was noted."""
    heard: float | None
    """The machine's clock when the hub was last heard; None: not since the start."""

    @property
    def now(self) -> float:
        return trusted_time(self.system, max(self.hub, self.hub_now))


class Warned(Struct, frozen=True, kw_only=True):
    """One warning; ``key`` stays the same while it is the same one."""

    key: str
    reason: Reason
    urgent: bool


def warnings(facts: TrustFacts) -> tuple[Warned, ...]:
    """Everything that is worth a word now, the urgent first."""
    found = [*_clock(facts), *_withdrawn(facts.withdrawn)]
    for role in facts.expiry:
        found += _role(role, facts.now)
    return tuple(sorted(found, key=lambda each: not each.urgent))


def blocking(facts: TrustFacts, model: str) -> Reason | None:
    """Why nothing of ``model`` may be installed now: what allows it has expired since it was checked. None: nothing has.

    Another model's role does not matter to it.
    """
    common = {"root", "targets", *ONLINE}
    for role in facts.expiry:
        if facts.now >= role.expires and (role.role in common or role.role == model):
            text = (
                f"{_title(role.role)} expired at {_at(role.expires)}{clock_words(facts)}; what serves goes on"
            )
            return Reason(code="expired", text=text)
    return None


def clock_words(facts: TrustFacts) -> str:
    """What to add to "expired" where the machine's clock may be why; empty where it is not."""
    if not _ahead(facts):
        return ""
    return (
        f"; this device's clock says {_at(facts.system)} and the hub last signed {_at(facts.hub)}: if the clock is wrong, "
        "set it and run `edgeward sync`"
    )


def _ahead(facts: TrustFacts) -> bool:
    """The hub was heard just now and signs times that are long past: one of the two clocks is wrong."""
    heard_now = facts.heard is not None and facts.system - facts.heard < CLOCK_TOLERANCE
    return heard_now and facts.hub > 0 and facts.system - facts.hub > CLOCK_TOLERANCE


def _clock(facts: TrustFacts) -> list[Warned]:
    known = max(BUILD_TIME, facts.hub)
    if facts.system < known - CLOCK_TOLERANCE:
        text = (
            f"this device's clock says {_at(facts.system)}, which is before {_at(known)}, a time that is known for certain; "
            "that one is used for signatures and certificates. Set the clock: logs and windows need it"
        )
        return [_warned("clock-behind", "clock-behind", text, urgent=False)]
    if _ahead(facts):
        text = (
            f"this device's clock says {_at(facts.system)}, and the hub last signed {_at(facts.hub)}: either the clock is ahead, "
            "and everything looks expired to it, or the hub has stopped signing. Compare the clock, then tell whoever runs the hub"
        )
        return [_warned("clock-ahead", "clock-ahead", text, urgent=True)]
    return []


def _withdrawn(releases: Collection[ModelRelease]) -> list[Warned]:
    return [
        _warned(
            f"withdrawn:{each.model}:{each.release}",
            "release-withdrawn",
            f"{each.model} release {each.release} was withdrawn by its approvers; it serves on until the hub orders another "
            "release, which no hold set on this device keeps away. Ask whoever runs the hub for one",
            urgent=True,
        )
        for each in releases
    ]


def _role(role: RoleExpiry, now: float) -> list[Warned]:
    left = (role.expires - now) / DAY
    title = _title(role.role)
    if left <= 0:
        text = f"{title} expired at {_at(role.expires)}: nothing new is installed, what serves goes on; {_todo(role.role)}"
        return [_warned(f"{role.role}:expired", "role-expired", text, urgent=True)]
    if role.role in ONLINE or left > EARLY_DAYS:
        return []
    level = "late" if left <= LATE_DAYS else "early"
    text = f"{title} expires at {_at(role.expires)}, in {_days(left)}; then nothing new is installed. {_todo(role.role).capitalize()}"
    return [_warned(f"{role.role}:{level}", "role-expires", text, urgent=level == "late")]


def _warned(key: str, code: str, text: str, *, urgent: bool) -> Warned:
    return Warned(key=key, reason=Reason(code=code, text=text), urgent=urgent)


def _title(role: str) -> str:
    match role:
        case "root" | "targets":
            return f"the {'root of trust' if role == 'root' else 'list of models and approvers'} ({role})"
        case "timestamp" | "snapshot":
            return f"the hub's own signature ({role})"
        case "director":
            return "this device's orders (director)"
        case _:
            return f"the approval of {role}"


def _todo(role: str) -> str:
    if role in {"root", "targets"}:
        return "the root holders have to sign it anew"
    if role in ONLINE:
        return "the hub signs it anew by itself when it is reached; see that it runs and is connected"
    return f"{role}'s approvers have to sign it anew"


def _days(left: float) -> str:
    whole = int(left)
    return "less than a day" if whole < 1 else f"{whole} day{'s' if whole > 1 else ''}"


def _at(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
