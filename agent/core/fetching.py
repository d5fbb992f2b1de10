"""Which way an artifact's bytes are asked for next, and when to stop asking. Decisions alone: time is an argument.

What is no fault of a way (nothing answers, the connection broke) is waited for and not counted. What is its fault (it does
not have the file, it fails, it is too slow, it says otherwise than was signed) is counted, and at ``tries`` the way is given up.
Wrong bytes drop the way that sent them; nobody knows who sent them where several ways or an earlier start had a part, so
then each way is asked for the whole file alone, once.
"""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from agent.protocol.state import Way

LONGEST_REST_SECONDS = 3_600.0
"""``Retry-After`` counts up to here: a way that asks for a year must not have it."""
FORGIVEN_BYTES = 256 * 1024
"""A way that has brought so many new ones since it failed starts with a clean sheet; so every run of tries ends."""


class Failure(StrEnum):
    """How one use of a way ended."""

    NO_ANSWER = "no-answer"
    ABSENT = "absent"
    NO_LOCATION = "no-location"
    BUSY = "busy"
    STUCK = "stuck"
    REFUSED = "refused"
    """It answered with an error, or with what can't be."""


class WayState(Struct, frozen=True, kw_only=True):
    """What is known of one way in this transfer."""

    failures: int = 0
    resting: bool = False
    """It failed since the last pause: the others first."""
    until: float | None = None
    """When it wants to be asked again, monotonic seconds."""
    dropped: bool = False
    """It sent a whole file, and the wrong one."""
    problem: str = ""


class Fetching(Struct, frozen=True, kw_only=True):
    """One artifact's transfer."""

    tries: int
    ways: dict[Way, WayState]
    """In the order of preference."""
    pauses: int = 0
    """In a row without new bytes: each is longer than the one before."""
    alone: bool = False
    """Bytes of several ways are not mixed any more; then what is no fault of a way is counted too."""
    wrong_files: int = 0


class Use(Struct, frozen=True):
    """Ask this way, from where the file ends."""

    way: Way


class Pause(Struct, frozen=True, kw_only=True):
    """Wait, then ask again."""

    attempt: int
    """For the back-off: 0 is the shortest."""
    at_least: float
    """Seconds; what the ways themselves have asked for."""


class GiveUp(Struct, frozen=True):
    """No way is left."""

    text: str


Step = Use | Pause | GiveUp


def begin(order: tuple[Way, ...], tries: int) -> Fetching:
    """A transfer that has not been tried yet."""
    return Fetching(tries=tries, ways={way: WayState() for way in order})


def next_step(fetching: Fetching, now: float) -> Step:
    """What to do now; ``now`` is monotonic seconds."""
    usable = {way: state for way, state in fetching.ways.items() if _is_usable(fetching, state)}
    if not usable:
        return GiveUp(_account(fetching))
    for way, state in usable.items():
        if not state.resting and (state.until is None or state.until <= now):
            return Use(way)
    waits = [0.0 if state.until is None else max(0.0, state.until - now) for state in usable.values()]
    return Pause(attempt=fetching.pauses, at_least=min(waits))


def paused(fetching: Fetching) -> Fetching:
    """The pause is over: every way may be asked again that has not said when."""
    ways = {way: replace(state, resting=False) for way, state in fetching.ways.items()}
    return replace(fetching, ways=ways, pauses=fetching.pauses + 1)


def joined(fetching: Fetching, order: tuple[Way, ...]) -> Fetching:
    """The ways there are now: a new one (a bundle that was handed in) has its place in the order, and a clean sheet."""
    known = {way: fetching.ways.get(way, WayState()) for way in order}
    return replace(fetching, ways={**known, **fetching.ways})


def arrived(fetching: Fetching, way: Way, count: int) -> Fetching:
    """``way`` has brought ``count`` new bytes in one use."""
    if count <= 0:
        return fetching
    state = fetching.ways[way]
    forgiven = replace(state, failures=0) if count >= FORGIVEN_BYTES else state
    return replace(fetching, ways={**fetching.ways, way: forgiven}, pauses=0)


def failed(
    fetching: Fetching,
    way: Way,
    failure: Failure,
    text: str,
    *,
    now: float,
    rest_seconds: float | None = None,
) -> Fetching:
    """One use of ``way`` ended so; ``rest_seconds``: how long it asked to be left alone."""
    state = fetching.ways[way]
    counts = failure is not Failure.NO_ANSWER or fetching.alone
    until = None if rest_seconds is None else now + min(max(0.0, rest_seconds), LONGEST_REST_SECONDS)
    state = replace(state, failures=state.failures + counts, resting=True, until=until, problem=text)
    return replace(fetching, ways={**fetching.ways, way: state})


def wrong_bytes(fetching: Fetching, way: Way, text: str, *, sole: bool) -> Fetching:
    """The whole file is here and is not the one that was signed.

    Args:
        fetching: the transfer.
        way: brought the last of it.
        text: the digests.
        sole: it brought all of it.
    """
    state = replace(fetching.ways[way], problem=text)
    ways = {**fetching.ways, way: state}
    others = any(_is_usable(fetching, other) for name, other in ways.items() if name != way)
    first_of_only_one = fetching.wrong_files == 0 and not others
    if sole and not first_of_only_one:
        ways[way] = replace(state, dropped=True)
    elif others:
        ways[way] = replace(state, resting=True)  # whoever it was: the other one has the first turn alone
    return replace(fetching, ways=ways, alone=True, wrong_files=fetching.wrong_files + 1)


def _is_usable(fetching: Fetching, state: WayState) -> bool:
    return not state.dropped and state.failures < fetching.tries


def _account(fetching: Fetching) -> str:
    parts = []
    for way, state in fetching.ways.items():
        why = "sent wrong bytes" if state.dropped else f"failed {state.failures} times"
        parts.append(f"{way} {why}: {state.problem}")
    return "; ".join(parts) or "no way is configured"
