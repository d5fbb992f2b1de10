"""The queue of webhooks, in the database: an event is queued in the transaction of the deed that it tells of."""

import secrets

import msgspec
from msgspec import Struct
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from agent.protocol.ids import UnixTime
from agent.protocol.words import one_line
from cloud_hub.webhooks.models import WebhookDelivery
from cloud_hub.webhooks.settings import WebhookSettings

FIRST_WAIT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 3_600.0
KEPT_SECONDS = 7 * 86_400.0
"""What is done stays visible for so long."""
PENDING, DELIVERED, GIVEN_UP, DROPPED = "pending", "delivered", "given-up", "dropped"
WORDS = 300


class Event(Struct, frozen=True, kw_only=True):
    """The body of a webhook."""

    v: int = 1
    id: str
    event: str
    time: UnixTime
    data: object


class Due(Struct, frozen=True, kw_only=True):
    """One attempt that is to be made."""

    id: str
    url: str
    body: bytes
    request: int | None


class Attempt(Struct, frozen=True, kw_only=True):
    """What came of it."""

    due: Due
    status: int | None
    error: str | None
    """None: it was taken."""
    acknowledged: str | None = None
    """The answer takes a retraining request up, with this note."""


class DeliveryView(Struct, frozen=True, kw_only=True):
    id: str
    url: str
    event: str
    created: UnixTime
    attempts: int
    due: UnixTime
    done: UnixTime | None
    outcome: str
    status: int | None
    error: str | None


def queue(
    session: Session,
    settings: WebhookSettings,
    event: str,
    data: object,
    now: float,
    *,
    request: int | None = None,
) -> None:
    """One delivery for each address, under one id."""
    if not settings.urls:
        return
    name = f"evt_{secrets.token_hex(12)}"
    body = msgspec.json.encode(Event(id=name, event=event, time=now, data=data))
    for url in dict.fromkeys(settings.urls):
        session.add(
            WebhookDelivery(
                id=name,
                url=url,
                event=event,
                request=request,
                created=now,
                body=body,
                attempts=0,
                due=now,
                outcome=PENDING,
            )
        )
    session.flush()
    _bound(session, settings.queue, now)


def _bound(session: Session, most: int, now: float) -> None:
    row = WebhookDelivery
    waiting = session.scalar(select(func.count()).where(row.done.is_(None))) or 0
    if waiting <= most:
        return
    oldest = select(row).where(row.done.is_(None)).order_by(row.created, row.id).limit(waiting - most)
    for each in session.scalars(oldest).all():
        each.done, each.outcome, each.error = now, DROPPED, f"more than {most} events waited"
    session.flush()


def due(session: Session, now: float, each: int) -> list[Due]:
    """What is to be tried now: at most ``each`` of every address, so that none waits for another's; the oldest first."""
    row = WebhookDelivery
    waits = (row.done.is_(None), row.due <= now)
    found: list[Due] = []
    for url in session.scalars(select(row.url).where(*waits).distinct().order_by(row.url)).all():
        query = select(row).where(row.url == url, *waits).order_by(row.due, row.created).limit(each)
        found += [
            Due(id=one.id, url=one.url, body=one.body, request=one.request) for one in session.scalars(query)
        ]
    return found


def settle(session: Session, attempt: Attempt, settings: WebhookSettings, now: float) -> None:
    """Write down what came of an attempt, and when the next one is."""
    row = session.get(WebhookDelivery, (attempt.due.id, attempt.due.url))
    if row is None or row.done is not None:
        return
    row.attempts += 1
    row.status = attempt.status
    row.error = one_line(attempt.error)[:WORDS] if attempt.error else None
    if attempt.error is None:
        row.done, row.outcome = now, DELIVERED
    elif row.attempts >= settings.attempts:
        row.done, row.outcome = now, GIVEN_UP
    else:
        row.due = now + wait(row.attempts)
    session.flush()


def wait(attempts: int) -> float:
    """Seconds after so many attempts that failed."""
    return float(min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(attempts - 1, 20)))


def forget(session: Session, now: float) -> None:
    """Remove what has been done for long."""
    session.execute(delete(WebhookDelivery).where(WebhookDelivery.done < now - KEPT_SECONDS))


def failures(session: Session) -> dict[str, int]:
    """Outcome → deliveries that never arrived, of those still kept."""
    row = WebhookDelivery
    query = (
        select(row.outcome, func.count()).where(row.outcome.in_((GIVEN_UP, DROPPED))).group_by(row.outcome)
    )
    return {row.outcome: int(row[1]) for row in session.execute(query)}


def deliveries(session: Session, limit: int = 200) -> list[DeliveryView]:
    """The newest first."""
    row = WebhookDelivery
    query = select(row).order_by(row.created.desc(), row.url).limit(limit)
    return [
        DeliveryView(
            id=each.id,
            url=each.url,
            event=each.event,
            created=each.created,
            attempts=each.attempts,
            due=each.due,
            done=each.done,
            outcome=each.outcome,
            status=each.status,
            error=each.error,
        )
        for each in session.scalars(query)
    ]
