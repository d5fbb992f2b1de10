"""Signed locations: whoever has the URL may fetch one artifact until it expires, as long as its device is trusted."""

import base64
import hashlib
import hmac
import secrets
from pathlib import Path
from urllib.parse import urlencode

from msgspec import Struct

from cloud_hub.devices.authority import write_private
from cloud_hub.errors import ForbiddenError, GoneError

KEY_FILE = "locations.key"
KEY_BYTES = 32
_EXPIRY_DIGITS = 12


class Claim(Struct, frozen=True, kw_only=True):
    """What a URL says of itself."""

    device: str
    expires: int
    """Unix seconds."""
    signature: str


class LocationKey:
    """Signs and checks locations (HMAC-SHA256)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def open(cls, folder: Path) -> "LocationKey":
        """The hub's own key; made where there is none yet. A new one voids every location that was handed out."""
        path = folder / KEY_FILE
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(path, secrets.token_bytes(KEY_BYTES))
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise ForbiddenError(
                f"{path}: {len(key)} bytes, {KEY_BYTES} are expected; remove it for a new one"
            )
        return cls(key)

    def sign(self, base: str, sha256: str, device: str, expires: int) -> str:
        """The URL of an artifact below ``base``."""
        query = urlencode(
            {"device": device, "expires": expires, "signature": self._signature(sha256, device, expires)}
        )
        return f"{base.rstrip('/')}/v1/artifacts/{sha256}?{query}"

    def check(self, sha256: str, claim: Claim, now: float) -> None:
        """Raise where the claim does not hold.

        Raises:
            ForbiddenError: not signed by this hub for this artifact and device.
            GoneError: it was, and has expired.
        """
        expected = self._signature(sha256, claim.device, claim.expires)
        if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
            raise ForbiddenError("this location was not signed by this hub for this artifact and device")
        if claim.expires <= now:
            raise GoneError("this location has expired; ask for a new one over MQTT")

    def _signature(self, sha256: str, device: str, expires: int) -> str:
        text = f"edgeward-location-1\n{device}\n{sha256}\n{expires}".encode()
        digest = hmac.new(self._key, text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def claim_of(device: str | None, expires: str | None, signature: str | None) -> Claim | None:
    """The claim in a URL's query; None where the URL has none of it.

    Raises:
        ForbiddenError: it has a part of it, or an expiry that is no number.
    """
    if device is None and expires is None and signature is None:
        return None
    if device is None or expires is None or signature is None:
        raise ForbiddenError("this location is not whole: device, expires and signature belong together")
    if not (expires.isascii() and expires.isdigit() and len(expires) <= _EXPIRY_DIGITS):
        raise ForbiddenError("this location's expiry is no time")
    return Claim(device=device, expires=int(expires), signature=signature)
