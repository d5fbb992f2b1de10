"""Memory of servers, as the kernel counts it."""

import contextlib
import itertools
from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec import Struct

from hw_bench.serving.clients import Clients
from hw_bench.serving.edgeward import EdgewardServer
from hw_bench.serving.model import ServedModel
from hw_bench.serving.pairs import spread
from hw_bench.serving.servers import Server
from hw_bench.serving.targets import Figure

SECONDS_OF_LOAD = 0.4
"""A few hundred requests, so that what is allocated on use is there."""

RUNNERS = 3
LIMITS_MIB = {"onnx": 64.0, "tflite": 44.0}
FURTHER_LIMIT_MIB = 30.0
_KIB = 1024
_NUMPY = "_multiarray_umath"


class Memory(Struct, frozen=True, kw_only=True):
    """Of some processes together, MiB."""

    pss: float
    """Shared pages counted by their share: what the processes cost, where the others stay."""
    rss: float
    """Shared pages counted whole in each process."""


def memory(pids: Sequence[int]) -> Memory:
    """Sum over processes; raises ``FileNotFoundError`` where one is gone."""
    rollups = [_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")) for pid in pids]
    return Memory(pss=sum(entry.pss for entry in rollups), rss=sum(entry.rss for entry in rollups))


def _rollup(text: str) -> Memory:
    fields = dict(line.split(":", 1) for line in text.splitlines()[1:])
    pss, rss = (int(fields[name].split()[0]) / _KIB for name in ("Pss", "Rss"))
    return Memory(pss=pss, rss=rss)


def of_runners(model: ServedModel) -> list[Figure]:
    """One runner, and what each further one of the same kind adds to the sum over all.

    Raises:
        ServerError: a runner did not start.
        MeasurementError: a client failed.
    """
    servers = [EdgewardServer(model) for _ in range(RUNNERS)]
    sums: list[Memory] = []
    try:
        for count, server in enumerate(servers, start=1):
            server.start()
            sums.append(_after_load(server, model, servers[:count]))
        others = _sharers({pid for server in servers for pid in server.pids()})
    finally:
        for server in servers:
            server.stop()
    grown = [after.pss - before.pss for before, after in itertools.pairwise(sums)]
    runtime = model.runtime
    return [
        Figure(
            name=f"runner on {runtime}, PSS",
            unit="MiB",
            value=spread([sums[0].pss]),
            at_most=LIMITS_MIB[runtime],
            note=f"RSS {sums[0].rss:.1f}{_warning(others)}",
        ),
        Figure(
            name=f"each further runner on {runtime}, PSS",
            unit="MiB",
            value=spread(grown),
            at_most=FURTHER_LIMIT_MIB,
            note=f"growth of the sum over {RUNNERS} runners",
        ),
    ]


def of_server(server: Server, model: ServedModel) -> Figure:
    """A peer's processes together; started and stopped here."""
    server.start()
    try:
        found = _after_load(server, model, [server])
    finally:
        server.stop()
    return Figure(
        name=f"{server.name}, PSS", unit="MiB", value=spread([found.pss]), note=f"RSS {found.rss:.1f}"
    )


def _after_load(server: Server, model: ServedModel, everyone: Sequence[Server]) -> Memory:
    route = model.route(server.name, server.address, server.how)
    with Clients(1, [route]) as clients:
        clients.burst(route.name, 1, SECONDS_OF_LOAD)
    # The clients are gone: pages that only they share with a server count whole again.
    return memory([pid for each in everyone for pid in each.pids()])


def _sharers(ours: Collection[int]) -> int:
    """Other processes that have NumPy mapped: they make the PSS of ours look smaller than it is without them."""
    found = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) in ours:
            continue
        with contextlib.suppress(OSError):
            found += _NUMPY in (folder / "maps").read_text(encoding="utf-8", errors="replace")
    return found


def _warning(others: int) -> str:
    return f"; {others} other processes shared pages with it" if others else ""
