"""``[webhooks]`` of hub.toml."""

from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
Url = Annotated[str, Meta(pattern=r"^https?://[^\s#@]+$(?!\n)", max_length=512)]


class WebhookSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[webhooks]``: where retraining requests and notices are told, signed by HMAC (docs/fleet-drift.md)."""

    urls: tuple[Url, ...] = ()
    """``https://…``; ``http://`` on loopback alone. Redirects are not followed."""
    secret_file: str | None = None
    """File with the secret that signs, relative to hub.toml: one line, 32 characters or more. Needed where there are urls."""
    attempts: Annotated[int, Meta(ge=1, le=100)] = 12
    """Then an event is given up for that address, and a notice says so. Each waits twice as long as the one before, up to an hour."""
    queue: Annotated[int, Meta(ge=10, le=100_000)] = 1000
    """Events that may wait; over it the oldest is dropped, and counted."""
    timeout_seconds: Annotated[float, Meta(gt=0, le=60)] = 10.0
    """For one attempt, as a whole."""


def settings_problem(settings: WebhookSettings) -> str | None:
    """What is wrong with them, in the words of hub.toml; None where nothing is."""
    for url in settings.urls:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            return f"webhooks.urls: {url!r}: {error}"
        if not host:
            return f"webhooks.urls: {url!r} names no host"
        if parts.scheme == "http" and host not in LOOPBACK:
            return f"webhooks.urls: {url!r}: events are told over https:// (http:// on loopback alone)"
    if settings.urls and settings.secret_file is None:
        return "webhooks.secret_file: not set; what is sent to webhooks.urls must be signed"
    return None
