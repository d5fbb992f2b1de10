"""Send what waits, from a thread of its own: no other part of the hub waits for a stranger's server."""

import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from cloud_hub.database import Database
from cloud_hub.errors import ConflictError, NotFoundError
from cloud_hub.retraining.service import acknowledge
from cloud_hub.webhooks import service
from cloud_hub.webhooks.sending import Sender, read_secret
from cloud_hub.webhooks.service import Attempt
from cloud_hub.webhooks.settings import WebhookSettings

log = logging.getLogger(__name__)

AT_A_TIME = 20
"""Events of one address."""
FORGET_SECONDS = 3_600.0
"""Between two looks for what has been done for long."""


class WebhookKeeper:
    """Attempts deliveries and writes down what came of them.

    Raises:
        ConfigError: the secret can't be read, or is too short.
    """

    def __init__(self, database: Database, settings: WebhookSettings, *, now: Callable[[], float]) -> None:
        self._database = database
        self._settings = settings
        self._now = now
        self._forgot = 0.0
        secret = read_secret(Path(settings.secret_file)) if settings.urls and settings.secret_file else None
        self._sender = Sender(settings, secret, now=now) if secret is not None else None

    def step(self) -> bool:
        """Attempt what is due, a turn for each address; whether there may be more."""
        if self._sender is None:
            return False
        waiting = self._database.read(lambda session: service.due(session, self._now(), AT_A_TIME))
        for attempt in self._sender.attempt(waiting) if waiting else ():
            if attempt.error is not None:
                log.warning(
                    "webhook failed",
                    extra={"url": attempt.due.url, "event_id": attempt.due.id, "why": attempt.error},
                )
            self._database.write(lambda session: self._settle(session, attempt))  # noqa: B023 - it is awaited
        if abs(self._now() - self._forgot) >= FORGET_SECONDS:
            self._forgot = self._now()
            self._database.write(lambda session: service.forget(session, self._now()))
        return bool(waiting)

    def _settle(self, session: Session, attempt: Attempt) -> None:
        now, due = self._now(), attempt.due
        service.settle(session, attempt, self._settings, now)
        if attempt.acknowledged is None or due.request is None:
            return
        host = urlsplit(due.url).hostname
        try:
            acknowledge(session, due.request, by=f"webhook {host}", note=attempt.acknowledged, now=now)
        except (ConflictError, NotFoundError):
            log.info("webhook acknowledges what needs it no more", extra={"request": due.request})

    def close(self) -> None:
        if self._sender is not None:
            self._sender.close()
