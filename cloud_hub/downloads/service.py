"""Where devices find artifacts, who may fetch one, and how many at a time."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy.orm import Session

from agent.protocol.transfer import Location, LocationRequest, TransferProblem
from cloud_hub.config import DownloadSettings
from cloud_hub.database import Database
from cloud_hub.devices.models import Device
from cloud_hub.downloads.locations import Claim, LocationKey
from cloud_hub.errors import BusyError, ForbiddenError, TooManyError
from cloud_hub.registry.artifacts import ArtifactStore


def entity_tag(sha256: str) -> str:
    """The strong entity tag of an artifact: its digest."""
    return f'"{sha256}"'


class Downloads:
    """The hub's part in artifacts over HTTP; used from the bridge's thread and the API's.

    Args:
        settings: ``[downloads]``.
        key: signs locations.
        artifacts: the store.
        database: knows the devices.
        now: Unix seconds.
    """

    def __init__(
        self,
        settings: DownloadSettings,
        key: LocationKey,
        artifacts: ArtifactStore,
        database: Database,
        *,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._key = key
        self._artifacts = artifacts
        self._database = database
        self._now = now
        self._lock = threading.Lock()
        self._under_way: Counter[str] = Counter()

    def locate(self, device: str, request: LocationRequest) -> Location | TransferProblem:
        """Answer a device that asks where an artifact is; whether it is a device of ours has been checked."""
        if self._settings.url is None and not self._artifacts.can_sign:
            text = "this hub offers no HTTP; blocks over MQTT are the way (downloads.url in hub.toml)"
            return TransferProblem(id=request.id, code="no-location", text=text)
        stored = self._artifacts.look(request.sha256)
        if stored is None:
            text = f"the hub has no artifact {request.sha256}"
            return TransferProblem(id=request.id, code="not-found", text=text)
        lifetime = self._settings.location_seconds
        expires = int(self._now() + lifetime)
        if self._artifacts.can_sign:
            url = self._artifacts.sign(request.sha256, timedelta(seconds=lifetime))
            return Location(id=request.id, url=url, etag=stored.etag, expires=expires)
        base = self._settings.url or ""
        url = self._key.sign(base, request.sha256, device, expires)
        return Location(id=request.id, url=url, etag=entity_tag(request.sha256), expires=expires)

    def check(self, sha256: str, claim: Claim) -> None:
        """Raise where the holder of a location may not fetch the artifact.

        Raises:
            ForbiddenError: not signed here, or its device is not one of ours (any more).
            GoneError: the location has expired.
        """
        self._key.check(sha256, claim, self._now())

        def known(session: Session) -> bool:
            device = session.get(Device, claim.device)
            return device is not None and device.revoked is None

        if not self._database.read(known):
            raise ForbiddenError(f"device {claim.device} is not enrolled here")

    @contextmanager
    def turn(self, who: str) -> Iterator[None]:
        """One download of ``who`` is under way.

        Raises:
            TooManyError: 429, it has too many already.
            BusyError: 503, the hub has.
        """
        with self._lock:
            if self._under_way[who] >= self._settings.parallel_per_device:
                raise TooManyError(
                    f"{who} has {self._settings.parallel_per_device} downloads under way, as many as it may have"
                )
            if self._under_way.total() >= self._settings.parallel:
                raise BusyError(f"{self._settings.parallel} downloads are under way, as many as there may be")
            self._under_way[who] += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way[who] -= 1
                if not self._under_way[who]:
                    del self._under_way[who]

    @property
    def under_way(self) -> int:
        """Downloads now."""
        with self._lock:
            return self._under_way.total()
