"""How a webhook is signed: HMAC-SHA256 over id, time and body, so that none of them can be changed, or sent again later as new."""

import hashlib
import hmac

ID, TIME, SIGNATURE = "Edgeward-Id", "Edgeward-Timestamp", "Edgeward-Signature"
VERSION = "v1="
FRESH_SECONDS = 300.0
"""A receiver should refuse what is older."""
SHORTEST_SECRET = 32


def sign(secret: bytes, delivery: str, timestamp: int, body: bytes) -> str:
    """The value of the header :data:`SIGNATURE`: ``v1=`` and 64 hexadecimal digits of HMAC-SHA256 over ``id.time.body``."""
    message = f"{delivery}.{timestamp}.".encode() + body
    return VERSION + hmac.new(secret, message, hashlib.sha256).hexdigest()


def is_signed(secret: bytes, delivery: str, timestamp: str, body: bytes, signature: str, now: float) -> bool:
    """What a receiver checks; it is to remember the id too."""
    if not timestamp.isascii() or not timestamp.isdigit() or abs(now - int(timestamp)) > FRESH_SECONDS:
        return False
    return hmac.compare_digest(sign(secret, delivery, int(timestamp), body), signature)
