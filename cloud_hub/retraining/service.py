"""Open, refresh, acknowledge and close requests; in the caller's transaction, each deed in the audit log with it."""

from collections.abc import Callable, Collection, Mapping

import msgspec
from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agent.protocol.ids import UnixTime
from agent.protocol.words import one_line
from cloud_hub.audit.service import record
from cloud_hub.devices.models import CommittedRelease
from cloud_hub.errors import ConflictError, NotFoundError
from cloud_hub.retraining.evidence import make, seal
from cloud_hub.retraining.models import (
    RetrainingEvidence,
    RetrainingPolicyRow,
    RetrainingRequest,
    RetrainingWatch,
)
from cloud_hub.retraining.policy import (
    Cause,
    RetrainingPolicy,
    Situation,
    Watch,
    accuracy_situation,
    decide,
    drift_situation,
    watch,
)
from cloud_hub.telemetry.views import ReleaseDrift

HUB = "hub"
REFRESH_SECONDS = 86_400.0
"""Evidence is added to an open request once a day while its cause lasts: enough for an auditor, no noise."""
MOST_EVIDENCE = 400

Tell = Callable[[str, object], None]
"""Event and its data, for webhooks."""


class EvidenceView(Struct, frozen=True, kw_only=True):
    number: int
    made: UnixTime
    sha256: str


class RequestView(Struct, frozen=True, kw_only=True):
    """A model should be retrained."""

    id: int
    model: str
    release: int
    cause: str
    state: str
    """``open``, ``acknowledged`` or ``closed``."""
    text: str
    opened: UnixTime
    updated: UnixTime
    acknowledged: UnixTime | None
    acknowledged_by: str | None
    note: str | None
    closed: UnixTime | None
    closed_by: str | None
    closed_reason: str | None
    evidence: tuple[EvidenceView, ...]


class PolicyView(Struct, frozen=True, kw_only=True):
    model: str
    policy: RetrainingPolicy
    set_by: str | None
    """None: it is the one of hub.toml."""
    set_at: UnixTime | None


class Known(Struct, frozen=True, kw_only=True):
    """What is known of a release beside its drift."""

    expected: float | None
    reference_sha256: str | None


def policy_of(session: Session, model: str, default: RetrainingPolicy) -> PolicyView:
    row = session.get(RetrainingPolicyRow, model)
    if row is None:
        return PolicyView(model=model, policy=default, set_by=None, set_at=None)
    policy = msgspec.json.decode(row.policy, type=RetrainingPolicy)
    return PolicyView(model=model, policy=policy, set_by=row.set_by, set_at=row.set_at)


def set_policy(session: Session, model: str, policy: RetrainingPolicy | None, *, by: str, now: float) -> None:
    """Give a model a policy of its own, or (None) take it away."""
    row = session.get(RetrainingPolicyRow, model)
    if policy is None:
        if row is not None:
            session.delete(row)
        record(session, now=now, actor=by, action="retraining-policy", subject=model, policy="of hub.toml")
        return
    if row is None:
        row = RetrainingPolicyRow(model=model)
    row.policy, row.set_by, row.set_at = msgspec.json.encode(policy), by, now
    session.add(row)
    text = msgspec.json.encode(policy).decode()
    record(session, now=now, actor=by, action="retraining-policy", subject=model, policy=text)


def consider(
    session: Session, drift: ReleaseDrift, known: Known, default: RetrainingPolicy, now: float, tell: Tell
) -> None:
    """Lay what the fleet says of a release beside the policy of its model, and do what follows."""
    policy = policy_of(session, drift.model, default).policy
    situations: dict[Cause, Situation] = {
        "drift": drift_situation(policy, drift),
        "accuracy": accuracy_situation(policy, drift, known.expected),
    }
    for cause, situation in situations.items():
        row = _open_request(session, drift.model, drift.release, cause)
        after = _watch(session, drift, cause, situation, now)
        step = decide(policy, after, now, is_open=row is not None)
        if step == "close" and row is not None:
            reason = f"it is over: {situation.text}, for {policy.calm_hours:g} hours"
            _close(session, row, by=HUB, reason=reason, now=now, tell=tell)
        elif step is not None and after.since is not None:
            _write_down(
                session, row, drift, known, policy, cause, situation, since=after.since, now=now, tell=tell
            )


def _watch(session: Session, drift: ReleaseDrift, cause: Cause, situation: Situation, now: float) -> Watch:
    row = session.get(RetrainingWatch, (drift.model, drift.release, cause))
    after = watch(Watch(since=row.since, calm=row.calm) if row else Watch(), situation, now)
    if row is None:
        row = RetrainingWatch(model=drift.model, release=drift.release, cause=cause)
    row.since, row.calm = after.since, after.calm
    session.add(row)
    return after


def _open_request(session: Session, model: str, release: int, cause: str) -> RetrainingRequest | None:
    row = RetrainingRequest
    return session.scalar(
        select(row).where(
            row.model == model, row.release == release, row.cause == cause, row.closed.is_(None)
        )
    )


def _write_down(
    session: Session,
    row: RetrainingRequest | None,
    drift: ReleaseDrift,
    known: Known,
    policy: RetrainingPolicy,
    cause: Cause,
    situation: Situation,
    *,
    since: float,
    now: float,
    tell: Tell,
) -> None:
    """Open a request with its evidence, or add to one that is open."""
    is_new = row is None
    if row is None:
        row = RetrainingRequest(
            model=drift.model, release=drift.release, cause=cause, text="", opened=now, updated=0.0
        )
        session.add(row)
        session.flush()
    elif now - row.updated < REFRESH_SECONDS:
        return
    number = 1 + (session.scalar(_count_evidence(row.id)) or 0)
    if number > MOST_EVIDENCE:
        return
    evidence = make(
        drift,
        request=row.id,
        number=number,
        cause=cause,
        text=situation.text,
        since=since,
        policy=policy,
        affected=situation.affected,
        reference_sha256=known.reference_sha256,
        expected=known.expected,
        now=now,
    )
    document, digest = seal(evidence)
    session.add(RetrainingEvidence(request=row.id, number=number, made=now, sha256=digest, document=document))
    row.text, row.updated = situation.text, now
    session.flush()
    record(
        session,
        now=now,
        actor=HUB,
        action="retraining-request" if is_new else "retraining-evidence",
        subject=f"request {row.id}",
        model=row.model,
        release=row.release,
        cause=cause,
        text=situation.text,
        evidence_sha256=digest,
    )
    if is_new:
        tell("retraining-requested", view(session, row))


def _count_evidence(request: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a query's type has no short name
    return select(func.max(RetrainingEvidence.number)).where(RetrainingEvidence.request == request)


def acknowledge(session: Session, request: int, *, by: str, note: str | None, now: float) -> RequestView:
    """A person, or a webhook's answer, has taken it up.

    Raises:
        NotFoundError: there is no such request.
        ConflictError: it is acknowledged or closed already.
    """
    row = get_request(session, request)
    if row.closed is not None:
        raise ConflictError(f"request {request} was closed by {row.closed_by}: {row.closed_reason}")
    if row.acknowledged is not None:
        raise ConflictError(f"request {request} was acknowledged by {row.acknowledged_by} already")
    note = one_line(note) if note else None
    row.acknowledged, row.acknowledged_by, row.note = now, by, note
    record(
        session,
        now=now,
        actor=by,
        action="retraining-acknowledge",
        subject=f"request {request}",
        note=note or "",
    )
    return view(session, row)


def close(session: Session, request: int, *, by: str, reason: str, now: float, tell: Tell) -> RequestView:
    """A person ends it.

    Raises:
        NotFoundError: there is no such request.
        ConflictError: it is closed already.
    """
    row = get_request(session, request)
    if row.closed is not None:
        raise ConflictError(f"request {request} was closed by {row.closed_by}: {row.closed_reason}")
    _close(session, row, by=by, reason=one_line(reason), now=now, tell=tell)
    return view(session, row)


def close_overtaken(session: Session, now: float, tell: Tell) -> None:
    """End the requests of releases in whose place most devices have committed a newer one."""
    for row in session.scalars(select(RetrainingRequest).where(RetrainingRequest.closed.is_(None))).all():
        committed = list(
            session.scalars(select(CommittedRelease.release).where(CommittedRelease.model == row.model))
        )
        newer = [release for release in committed if release > row.release]
        if committed and 2 * len(newer) > len(committed):
            reason = f"{len(newer)} of {len(committed)} devices have committed a newer release, {max(newer)} the newest"
            _close(session, row, by=HUB, reason=reason, now=now, tell=tell)


def close_left(
    session: Session, served: Mapping[str, int], seen: Collection[tuple[str, int]], now: float, tell: Tell
) -> None:
    """End the requests of releases that nobody sends windows of any more while the model's other one goes on.

    Args:
        session: the caller's transaction.
        served: model → the release that most devices serve.
        seen: models and releases that windows came of lately.
        now: Unix seconds.
        tell: for webhooks.
    """
    for row in session.scalars(select(RetrainingRequest).where(RetrainingRequest.closed.is_(None))).all():
        other = served.get(row.model)
        if (row.model, row.release) in seen or other is None or (row.model, other) not in seen:
            continue
        reason = f"no device sends windows of it any more; most serve {row.model} {other}"
        _close(session, row, by=HUB, reason=reason, now=now, tell=tell)


def _close(session: Session, row: RetrainingRequest, *, by: str, reason: str, now: float, tell: Tell) -> None:
    row.closed, row.closed_by, row.closed_reason = now, by, reason
    stale = session.get(RetrainingWatch, (row.model, row.release, row.cause))
    if stale is not None:
        stale.since = stale.calm = None  # what comes after is new, and takes its time again
    session.flush()
    record(session, now=now, actor=by, action="retraining-close", subject=f"request {row.id}", reason=reason)
    tell("retraining-closed", view(session, row))


def get_request(session: Session, request: int) -> RetrainingRequest:
    """Raises NotFoundError."""
    row = session.get(RetrainingRequest, request)
    if row is None:
        raise NotFoundError(f"there is no retraining request {request}")
    return row


def requests(session: Session, *, closed: bool = True, limit: int = 200) -> list[RequestView]:
    """Those that are not closed first, then the newest."""
    row = RetrainingRequest
    query = select(row) if closed else select(row).where(row.closed.is_(None))
    found = session.scalars(query.order_by(row.closed.is_not(None), row.id.desc()).limit(limit))
    return [view(session, each) for each in found]


def evidence_of(session: Session, request: int, number: int) -> bytes:
    """The document as it was written.

    Raises:
        NotFoundError: there is none of that number.
    """
    row = session.get(RetrainingEvidence, (request, number))
    if row is None:
        raise NotFoundError(f"request {request} has no evidence {number}")
    return row.document


def view(session: Session, row: RetrainingRequest) -> RequestView:
    evidence = RetrainingEvidence
    found = session.execute(
        select(evidence.number, evidence.made, evidence.sha256)
        .where(evidence.request == row.id)
        .order_by(evidence.number)
    )
    state = "closed" if row.closed is not None else "acknowledged" if row.acknowledged is not None else "open"
    return RequestView(
        id=row.id,
        model=row.model,
        release=row.release,
        cause=row.cause,
        state=state,
        text=row.text,
        opened=row.opened,
        updated=row.updated,
        acknowledged=row.acknowledged,
        acknowledged_by=row.acknowledged_by,
        note=row.note,
        closed=row.closed,
        closed_by=row.closed_by,
        closed_reason=row.closed_reason,
        evidence=tuple(
            EvidenceView(number=number, made=made, sha256=sha256) for number, made, sha256 in found
        ),
    )
