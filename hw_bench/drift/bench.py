"""Rounds in which ours and the peers take turns on the same rows, so that a busy machine slows all of them."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from msgspec import Struct

from hw_bench.drift import own, peers
from hw_bench.drift.own import Summarised, Wire
from hw_bench.drift.stream import BATCH, Stream, reference, stream
from hw_bench.errors import MeasurementError
from hw_bench.serving.pairs import Spread, spread

WINDOW_ROWS = (500, 3_600)
"""The default of a policy, and a row a second for an hour."""


class Effort(Struct, frozen=True, kw_only=True):
    rounds: int
    rows: int
    """Ours, and River's."""
    slow_rows: int
    """Of whylogs row by row, which takes two hundred times as long."""


FULL = Effort(rounds=9, rows=20_480, slow_rows=512)
QUICK = Effort(rounds=2, rows=2_560, slow_rows=64)


class Pair(Struct, frozen=True, kw_only=True):
    """Ours and a peer's, in the same rounds."""

    name: str
    ours_us: Spread
    theirs_us: Spread
    ratio: Spread
    """Ours by theirs, in each round."""
    at_most: float
    """Of the ratio's median."""


class DriftBench(Struct, frozen=True, kw_only=True):
    versions: str
    by_row_us: dict[str, Spread]
    """By spacing of bins; :data:`hw_bench.drift.own.ROWS_A_SECOND` of them a second."""
    seldom_us: dict[str, Spread]
    """:data:`hw_bench.drift.own.SELDOM` a second."""
    telling_ms: dict[str, Spread]
    in_batches_us: dict[str, Spread]
    verdict_ms: dict[str, Spread]
    pairs: tuple[Pair, ...]
    wire: tuple[Wire, ...]
    summaries: tuple[Summarised, ...]


def measure(effort: Effort, folder: Path, tell: Callable[[str], None]) -> DriftBench:
    """Everything.

    Raises:
        AbsentError: the peers' environment is not there.
        MeasurementError: it broke off.
    """
    rows = stream(effort.rows)
    signed = {"uniform": reference("uniform"), "quantile": reference("quantile")}
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {name: [] for name in _LIMITS}
    with _peer(folder, rows) as ask:
        versions = ask.versions
        for number in range(effort.rounds):
            tell(f"round {number + 1} of {effort.rounds}")
            for spacing, one in signed.items():
                _add(ours, f"by-row {spacing}", own.by_row(one, rows))
                _add(ours, f"seldom {spacing}", own.by_row(one, rows, own.SELDOM))
                _add(ours, f"telling {spacing}", own.telling_ms(one, rows))
                _add(ours, f"in-batches {spacing}", own.in_batches(one, rows))
                _add(ours, f"verdict {spacing}", own.verdict_ms(one, rows))
            for name, (_, _, slow) in _LIMITS.items():
                theirs[name].append(ask.measure(name, effort.slow_rows if slow else effort.rows))
    tell("windows on the wire, summaries")
    return DriftBench(
        versions=versions,
        by_row_us={name: spread(ours[f"by-row {name}"]) for name in signed},
        seldom_us={name: spread(ours[f"seldom {name}"]) for name in signed},
        telling_ms={name: spread(ours[f"telling {name}"]) for name in signed},
        in_batches_us={name: spread(ours[f"in-batches {name}"]) for name in signed},
        verdict_ms={name: spread(ours[f"verdict {name}"]) for name in signed},
        pairs=tuple(
            _pair(name, ours[f"{kind} uniform"], theirs[name], at_most)
            for name, (kind, at_most, _) in _LIMITS.items()
        ),
        wire=tuple(
            own.on_the_wire(stream(count, seed=13), spacing) for count in WINDOW_ROWS for spacing in signed
        ),
        summaries=tuple(own.summaries(30 * effort.rounds)),
    )


_LIMITS: dict[str, tuple[str, float, bool]] = {
    "whylogs-by-row": ("by-row", 1 / 20, True),
    "whylogs-in-batches": ("in-batches", 1 / 20, False),
    "river-adwin": ("by-row", 1.0, False),
}
"""Peer → what of ours it is compared with, the most that ours may be of it, and whether it is slow."""


def _add(figures: dict[str, list[float]], name: str, value: float) -> None:
    figures.setdefault(name, []).append(value)


def _pair(name: str, ours: list[float], theirs: list[float], at_most: float) -> Pair:
    return Pair(
        name=name,
        ours_us=spread(ours),
        theirs_us=spread(theirs),
        ratio=spread([one / other for one, other in zip(ours, theirs, strict=True)]),
        at_most=at_most,
    )


class _Peer:
    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child
        self.versions = self._line()

    def measure(self, name: str, rows: int) -> float:
        if self._child.stdin is not None:
            self._child.stdin.write(f"{name} {rows}\n")
            self._child.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        line = self._child.stdout.readline() if self._child.stdout is not None else ""
        if not line:
            raise MeasurementError(f"the peers' process ended with status {self._child.wait()}")
        return line.strip()


@contextmanager
def _peer(folder: Path, rows: Stream) -> Iterator[_Peer]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "stream.npy"
        np.save(path, rows)
        child = subprocess.Popen(
            [peers.python(folder), Path(__file__).parent / "peer_child.py", path, str(BATCH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=peers.environment(),
            text=True,
        )
        try:
            yield _Peer(child)
        finally:
            child.kill()
            child.wait()
            for end in (child.stdin, child.stdout):
                if end is not None:
                    end.close()
