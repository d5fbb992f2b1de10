"""Who is measured when: all routes take turns, round after round."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from hw_bench.serving.clients import Clients
from hw_bench.serving.messages import Route
from hw_bench.serving.pairs import Sample


class Effort(Struct, frozen=True, kw_only=True):
    """How much is measured."""

    rounds: int
    seconds: float
    """Of each route in each round."""
    starts: int
    """Processes that are started for the time to the first answer."""


CLIENTS = (1, 4)

FULL = Effort(rounds=15, seconds=0.8, starts=12)
QUICK = Effort(rounds=3, seconds=0.2, starts=3)


def measure(
    routes: Sequence[Route],
    effort: Effort,
    tell: Callable[[str], None],
    *,
    clients: Sequence[int] = CLIENTS,
) -> dict[tuple[str, int], list[Sample]]:
    """Measure every route with each number of clients.

    Each round begins with another route, so that none is always first, or always behind the slowest.

    Returns:
        (route, clients) → one sample a round, in the order of the rounds.

    Raises:
        MeasurementError: a client failed.
    """
    found: dict[tuple[str, int], list[Sample]] = {}
    with Clients(max(clients), routes) as processes:
        for count in clients:
            for turn in range(effort.rounds):
                tell(f"{count} client{'s' if count > 1 else ''}, round {turn + 1} of {effort.rounds}")
                first = turn % len(routes)
                for route in (*routes[first:], *routes[:first]):
                    measured = processes.burst(route.name, count, effort.seconds)
                    found.setdefault((route.name, count), []).append(measured)
    return found
