"""What is promised (DESIGN.md, "Numbers to reach"), and whether it is kept."""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from hw_bench.serving.pairs import Sample, Spread, paired

Quantity = Literal["p50_us", "requests_per_second"]
Rounds = Mapping[tuple[str, int], Sequence[Sample]]
"""(route, clients) → its rounds, all routes in the same order."""

EDGEWARD, FRONT, TRITON, MLSERVER, ECHO = "edgeward", "edgeward front", "triton", "mlserver", "echo"
EDGEWARD_JSON = "edgeward JSON"
LARGE_BINARY, LARGE_SHARED = "600 KB binary", "600 KB shared memory"


class Target(Struct, frozen=True, kw_only=True):
    """A bound on the ratio of two routes in one quantity."""

    quantity: Quantity
    of: str
    to: str
    clients: int
    bound: float | None
    """None: told for comparison, promised nothing."""

    @property
    def at_most(self) -> bool:
        """Whether small is good."""
        return self.quantity == "p50_us"


class Outcome(Struct, frozen=True, kw_only=True):
    """A target and what was measured."""

    target: Target
    ratio: Spread
    kept: bool | None
    """None: nothing was promised."""


class Figure(Struct, frozen=True, kw_only=True):
    """A quantity that is no ratio of two servers: memory, start."""

    name: str
    unit: str
    value: Spread
    at_most: float | None = None
    note: str = ""

    @property
    def kept(self) -> bool | None:
        """None: nothing was promised."""
        return None if self.at_most is None else self.value.median <= self.at_most


def _p50(of: str, to: str, bound: float | None) -> tuple[Target, ...]:
    return tuple(Target(quantity="p50_us", of=of, to=to, clients=clients, bound=bound) for clients in (1, 4))


TARGETS = (
    *_p50(EDGEWARD, TRITON, 0.55),
    *_p50(FRONT, TRITON, 0.7),
    *_p50(EDGEWARD, MLSERVER, 1 / 3),
    *_p50(EDGEWARD_JSON, MLSERVER, None),
    *_p50(EDGEWARD, ECHO, 1.25),
    Target(quantity="requests_per_second", of=EDGEWARD, to=TRITON, clients=4, bound=2.0),
    Target(quantity="requests_per_second", of=FRONT, to=TRITON, clients=4, bound=None),
    Target(quantity="requests_per_second", of=EDGEWARD, to=MLSERVER, clients=4, bound=None),
    Target(quantity="p50_us", of=LARGE_SHARED, to=LARGE_BINARY, clients=1, bound=0.1),
)


def outcomes(rounds: Rounds, targets: Sequence[Target] = TARGETS) -> tuple[Outcome, ...]:
    """Judge every target whose two routes were measured."""
    return tuple(
        _judge(target, rounds[target.of, target.clients], rounds[target.to, target.clients])
        for target in targets
        if (target.of, target.clients) in rounds and (target.to, target.clients) in rounds
    )


def _judge(target: Target, of: Sequence[Sample], to: Sequence[Sample]) -> Outcome:
    ratio = paired(_values(of, target.quantity), _values(to, target.quantity))
    if target.bound is None:
        return Outcome(target=target, ratio=ratio, kept=None)
    kept = ratio.median <= target.bound if target.at_most else ratio.median >= target.bound
    return Outcome(target=target, ratio=ratio, kept=kept)


def _values(samples: Sequence[Sample], quantity: Quantity) -> list[float]:
    return [sample.p50_us if quantity == "p50_us" else sample.requests_per_second for sample in samples]
