"""What runs out soon, for people: findings, and entries of the audit log."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud_hub.audit.models import AuditRow
from cloud_hub.audit.service import record
from cloud_hub.signing.expiry import Life

SECONDS_A_DAY = 86_400


def note_expiry(session: Session, soon: Sequence[Life], now: float) -> None:
    """Write each into the audit log, once a version and severity."""
    for life in soon:
        version = "" if life.version is None else f" version {life.version}"
        action, subject = f"expiry-{life.severity}", f"{life.name}{version}"
        known = select(AuditRow).where(AuditRow.action == action, AuditRow.subject == subject).limit(1)
        if session.scalar(known) is None:
            record(
                session,
                now=now,
                actor="hub",
                action=action,
                subject=subject,
                left=left(life, now),
                who=life.who,
                to_do=life.command,
            )


def left(life: Life, now: float) -> str:
    """How much time there is, in words."""
    days = (life.expires - now) / SECONDS_A_DAY
    if days < 0:
        return "expired"
    return f"{days:.0f} days left" if days >= 2 else f"{days * 24:.0f} hours left"  # noqa: PLR2004 - then hours count
