"""What goes on between this device and where its artifacts come from: one board that downloads write and reports read."""

from collections.abc import Iterable

from msgspec import Struct

from agent.protocol.patches import parse_patch_name
from agent.protocol.state import Reason, TransferProgress, Way
from agent.protocol.verification import ReleaseFile
from agent.transport.rate import RateMeter

ARTIFACTS = "artifacts"
PATCHES = "patches"
"""Purposes in the ledger."""
REMEMBERED = 512
"""Digests; the oldest are forgotten."""


class Flow(Struct, kw_only=True):
    """One artifact's transfer."""

    arrived: int = 0
    """Bytes that came since the agent started, the ones that had to come twice included."""
    way: Way | None = None
    """In use now."""
    waiting: Reason | None = None
    """Why nothing is in use now."""
    purpose: str = ARTIFACTS
    """In the ledger."""


class Transfers:
    """The transfers of one device, by digest."""

    def __init__(self) -> None:
        self._flows: dict[str, Flow] = {}

    def flow(self, digest: str) -> Flow:
        """The artifact's own; made where there is none."""
        flow = self._flows.pop(digest, None) or Flow()
        self._flows[digest] = flow
        while len(self._flows) > REMEMBERED:
            del self._flows[next(iter(self._flows))]
        return flow

    def expect(self, files: Iterable[ReleaseFile]) -> None:
        """These may be fetched: what of them is a patch is counted as one."""
        for file in files:
            is_patch = parse_patch_name(file.filename) is not None
            self.flow(file.sha256).purpose = PATCHES if is_patch else ARTIFACTS

    def arrived(self, digests: Iterable[str]) -> int:
        """Bytes that came of these."""
        return sum(flow.arrived for flow in self._known(digests))

    def way(self, digests: Iterable[str]) -> Way | None:
        """What one of these is coming by."""
        return next((flow.way for flow in self._known(digests) if flow.way is not None), None)

    def waiting(self, digests: Iterable[str]) -> Reason | None:
        """Why none of these is coming, where one should."""
        return next((flow.waiting for flow in self._known(digests) if flow.waiting is not None), None)

    def _known(self, digests: Iterable[str]) -> list[Flow]:
        return [self._flows[digest] for digest in digests if digest in self._flows]


class DeploymentMeter:
    """How far one deployment's bytes are, and how fast they come.

    Only bytes that arrive count for the rate: what was here already, and what an earlier start has left, does not.
    """

    def __init__(self, transfers: Transfers, digests: Iterable[str]) -> None:
        self._transfers = transfers
        self._digests = tuple(digests)
        self._meter = RateMeter()
        self._done = 0
        self._total = 0

    def told(self, done: int, total: int) -> None:
        """So many of so many bytes are here."""
        self._done, self._total = done, total

    def progress(self, now: float) -> TransferProgress | None:
        """``now``: monotonic seconds. None until something is known to travel."""
        if not self._total:
            return None
        self._meter.sample(self._transfers.arrived(self._digests), now)
        rate = self._meter.rate()
        left = self._total - self._done
        return TransferProgress(
            done_bytes=self._done,
            total_bytes=self._total,
            bytes_per_second=rate,
            eta_seconds=left / rate if rate else None,
            way=self._transfers.way(self._digests),
        )

    @property
    def waiting(self) -> Reason | None:
        """Why nothing comes, where something should."""
        return self._transfers.waiting(self._digests)
