"""Whether a device has memory for one more runner. All figures are MiB."""

import contextlib
import enum
from collections.abc import Callable, Iterator

import psutil
from msgspec import Struct

from agent.supervisor import cgroup

MIB = 1024.0 * 1024.0


def free_mib() -> float:
    """What the kernel can give without swapping, and no more than the limits of this service's cgroup leave."""
    device = float(psutil.virtual_memory().available) / MIB
    service = cgroup.room_mib(cgroup.own_folder())
    return device if service is None else min(device, service)


class Room:
    """The free memory of a device, shared by the servers of all its models."""

    def __init__(self, measure: Callable[[], float] = free_mib) -> None:
        self._measure = measure
        self._promised = 0.0

    def free_mib(self) -> float:
        """What nobody uses and nobody was promised."""
        return self._measure() - self._promised

    @contextlib.contextmanager
    def promise(self, mib: float) -> Iterator[None]:
        """Keep ``mib`` for a runner that is being loaded, so that another model's candidate does not count on them too."""
        self._promised += mib
        try:
            yield
        finally:
            self._promised -= mib


class Fit(enum.Enum):
    """How a candidate can be started."""

    BESIDE = "beside"
    """While the active runner serves."""
    INSTEAD = "instead"
    """Only after the active runner has stopped: a gap."""
    NOT_AT_ALL = "not at all"


class Need(Struct, frozen=True, kw_only=True):
    """What starting one runner takes."""

    budget: float
    """The most it may use."""
    reserve: float
    """What must stay free beside it."""
    owed: float = 0.0
    """Budget of the active runner where it is down and on its way back."""
    given_back: float = 0.0
    """What the active runner uses now."""

    def fit(self, free: float) -> Fit:
        """Decide for ``free`` MiB."""
        alone = self.budget + self.reserve
        if alone + self.owed <= free:
            return Fit.BESIDE
        return Fit.INSTEAD if alone <= free + self.given_back else Fit.NOT_AT_ALL

    def told(self, free: float) -> str:
        """In words, for the case that it does not fit beside."""
        needed = self.budget + self.reserve + self.owed
        both = " to run both" if self.owed or self.given_back else ""
        return (
            f"this device has {max(0.0, free):.0f} MiB free, {needed:.0f} are needed{both}"
            f" ({self.budget:.0f} budget, {self.reserve:.0f} reserve)"
        )
