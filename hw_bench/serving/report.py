"""One run of the serving bench, as it is written to JSON."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from hw_bench.serving.pairs import Sample, Spread, spread
from hw_bench.serving.targets import Figure, Outcome


class Measured(Struct, frozen=True, kw_only=True):
    """One route with so many clients: medians over the rounds."""

    route: str
    clients: int
    p50_us: Spread
    p95_us: Spread
    p99_us: Spread
    requests_per_second: Spread
    samples: tuple[Sample, ...]
    """Every round, in order."""


class ServingReport(Struct, frozen=True, kw_only=True):
    """Everything that a reader needs to believe it, or to repeat it."""

    machine: str
    made: str
    """UTC, ISO 8601."""
    command: str
    model: str
    packages: dict[str, str]
    load_before: float
    """The machine's load average over one minute: other work makes every number worse."""
    load_after: float
    servers: dict[str, str]
    """Name → what it is and what was set."""
    absent: dict[str, str]
    """Name → why it was not measured."""
    measured: tuple[Measured, ...]
    outcomes: tuple[Outcome, ...]
    figures: tuple[Figure, ...]


def summarise(rounds: Mapping[tuple[str, int], Sequence[Sample]]) -> tuple[Measured, ...]:
    """Medians and spreads of every route."""
    return tuple(
        Measured(
            route=route,
            clients=clients,
            p50_us=spread([entry.p50_us for entry in samples]),
            p95_us=spread([entry.p95_us for entry in samples]),
            p99_us=spread([entry.p99_us for entry in samples]),
            requests_per_second=spread([entry.requests_per_second for entry in samples]),
            samples=tuple(samples),
        )
        for (route, clients), samples in rounds.items()
    )
