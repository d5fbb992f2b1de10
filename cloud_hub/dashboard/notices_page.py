"""Requests to retrain, with what they rest on, and notices: what somebody should take up. Pure over what was read."""

from collections.abc import Sequence

from msgspec import Struct

from agent.protocol.drift_words import percent
from cloud_hub.dashboard import addresses, words
from cloud_hub.fleet.service import Finding, Severity
from cloud_hub.retraining.evidence import Evidence
from cloud_hub.retraining.notices import NoticeView
from cloud_hub.retraining.service import RequestView

TONES = {"open": "bad", "acknowledged": "busy", "closed": "quiet"}
ENDED_SHOWN = 40
AFFECTED_SHOWN = 12
SEVERITIES: dict[str, Severity] = {"error": "error", "warning": "warning", "info": "info"}
MARKS = {"error": "drift", "warning": "warning", "info": "info"}


class RequestCard(Struct, frozen=True, kw_only=True):
    view: RequestView
    tone: str
    link: str
    opened: str
    facts: tuple[tuple[str, str], ...]
    affected: tuple[tuple[str, str], ...]
    """Name and address of the devices that are affected; the first ones."""
    affected_left: int
    evidence: tuple[tuple[int, str, str], ...]
    """Number, when, SHA-256; the newest first."""
    commands: tuple[str, ...]
    """That somebody can give now."""


class NoticeRow(Struct, frozen=True, kw_only=True):
    view: NoticeView
    mark: str
    link: str | None
    since: str
    lasted: str
    """Of one that has ended."""


class NoticesPage(Struct, frozen=True, kw_only=True):
    open: tuple[RequestCard, ...]
    closed: tuple[RequestCard, ...]
    notices: tuple[NoticeRow, ...]
    ended: tuple[NoticeRow, ...]


def build(
    requests: Sequence[tuple[RequestView, Evidence | None]],
    notices: Sequence[NoticeView],
    devices: Sequence[str],
    now: float,
) -> NoticesPage:
    """``requests``: each with its newest evidence. ``devices``: those that have a page."""
    cards = [_card(view, evidence, now) for view, evidence in requests]
    known = set(devices)
    rows = [_row(each, known, now) for each in notices]
    return NoticesPage(
        open=tuple(card for card in cards if card.view.state != "closed"),
        closed=tuple(card for card in cards if card.view.state == "closed"),
        notices=tuple(row for row in rows if row.view.ended is None),
        ended=tuple(row for row in rows if row.view.ended is not None)[:ENDED_SHOWN],
    )


def as_findings(requests: Sequence[RequestView], notices: Sequence[NoticeView]) -> list[Finding]:
    """What the first page says of them: requests that nobody has taken up, and notices that stand."""
    found = [
        Finding(
            severity="error",
            where=f"{request.model} {request.release}",
            what=f"It should be retrained: {request.text}.",
            to_do=f"See what it rests on at {addresses.NOTICES}, then: edgeward-hub retraining acknowledge {request.id}",
        )
        for request in requests
        if request.state == "open"
    ]
    return found + [
        Finding(
            severity=SEVERITIES.get(notice.severity, "warning"),
            where=notice.subject.split(" ")[0],
            what=notice.text,
            to_do=notice.to_do,
        )
        for notice in notices
        if notice.ended is None
    ]


def _card(view: RequestView, evidence: Evidence | None, now: float) -> RequestCard:
    affected = [each.device for each in evidence.windows if each.affected] if evidence else []
    return RequestCard(
        view=view,
        tone=TONES[view.state],
        link=addresses.release(view.model, view.release),
        opened=words.ago(now - view.opened),
        facts=_facts(view, evidence),
        affected=tuple((name, addresses.device(name)) for name in affected[:AFFECTED_SHOWN]),
        affected_left=max(0, (evidence.affected if evidence else 0) - AFFECTED_SHOWN),
        evidence=tuple(
            (each.number, words.minute(each.made), each.sha256) for each in reversed(view.evidence)
        ),
        commands=_commands(view),
    )


def _facts(view: RequestView, evidence: Evidence | None) -> tuple[tuple[str, str], ...]:
    facts = [("Taken up", _taken_up(view))]
    if view.closed is not None:
        facts.append(("Ended", f"{words.minute(view.closed)} by {view.closed_by}: {view.closed_reason}"))
    if evidence is None:
        return tuple(facts)
    facts.append(("Holds since", words.minute(evidence.since)))
    facts.append(
        ("Devices", f"{evidence.affected} of {evidence.devices} affected, {words.many(evidence.rows, 'row')}")
    )
    if evidence.robust is not None and evidence.robust.moved_most:
        moved = ", ".join(
            f"{each.signal} ({each.statistic} {each.value:g})" for each in evidence.robust.moved_most
        )
        facts.append(("Moved most", moved))
    if evidence.estimate is not None:
        promised = (
            "" if evidence.expected_accuracy is None else f", evaluated {percent(evidence.expected_accuracy)}"
        )
        facts.append(("How right", f"about {percent(evidence.estimate.accuracy)} by estimate{promised}"))
    if evidence.left_out:
        facts.append(("Left out", ", ".join(each.device for each in evidence.left_out[:AFFECTED_SHOWN])))
    return tuple(facts)


def _taken_up(view: RequestView) -> str:
    if view.acknowledged is None:
        return "by nobody yet"
    note = f": {view.note}" if view.note else ""
    return f"{words.minute(view.acknowledged)} by {view.acknowledged_by}{note}"


def _commands(view: RequestView) -> tuple[str, ...]:
    if view.state == "closed":
        return ()
    show = f"edgeward-hub retraining show {view.id} --evidence FILE"
    end = f'edgeward-hub retraining close {view.id} --reason "…"'
    take = f'edgeward-hub retraining acknowledge {view.id} --note "who, and what they do"'
    return (take, show, end) if view.state == "open" else (show, end)


def _row(notice: NoticeView, known: set[str], now: float) -> NoticeRow:
    device = notice.subject.split(" ")[0]
    return NoticeRow(
        view=notice,
        mark=MARKS.get(notice.severity, "warning"),
        link=addresses.device(device) if device in known else None,
        since=words.ago(now - notice.since),
        lasted="" if notice.ended is None else words.lasting(max(0.0, notice.ended - notice.since)),
    )
