"""What the bench and its client processes say to each other, in JSON lines.

:class:`Setup` goes in first and is answered by :class:`Ready`, then any number of :class:`Burst`, each by :class:`Latencies`.
"""

from typing import Literal

from msgspec import Struct

from agent.protocol.manifest import Datatype

How = Literal["binary", "json", "shared memory"]
"""How the input travels; the outputs come back in binary, or with JSON in JSON."""


class Route(Struct, frozen=True, kw_only=True):
    """One way to one server."""

    name: str
    address: str
    """``host:port``"""
    how: How
    model: str
    input_name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: bytes
    """Of the input, little-endian, row-major."""
    outputs: tuple[str, ...]


class Setup(Struct, frozen=True, kw_only=True):
    """First line."""

    routes: tuple[Route, ...]


class Burst(Struct, frozen=True, kw_only=True):
    """Every further line: send to one route from ``begin`` until ``begin + seconds``."""

    route: str
    begin: float
    """``time.monotonic()``, the same for all processes; until then the route is warmed up."""
    seconds: float


class Latencies(Struct, frozen=True, kw_only=True):
    """What one client saw in a burst."""

    us: list[float]
    """Microseconds of each request that began and ended in it: until its answer was an array in hand."""
    failed: int
    """Requests that were not answered 200."""
    failure: str
    """What the first of them was told."""


class Ready(Struct, frozen=True, kw_only=True):
    """The answer to :class:`Setup`: every route has answered."""

    routes: int


WARM_UP_REQUESTS = 20
"""On a route, before a burst begins."""
