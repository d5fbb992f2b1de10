"""What devices say of their deployments, as events of rollouts.

In the caller's transaction; returned are the devices whose desired state changed, to be published after the commit.
"""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.state import DeploymentReport, Phase, ReportedState
from cloud_hub.devices.models import CommittedRelease
from cloud_hub.rollouts import machine
from cloud_hub.rollouts.documents import Signing
from cloud_hub.rollouts.engine import apply
from cloud_hub.rollouts.machine import Status
from cloud_hub.rollouts.models import DesiredAssignment, RolloutDevice
from cloud_hub.rollouts.views import get_rollout

_OUTCOMES: dict[Phase, machine.Outcome] = {
    Phase.COMMITTED: "committed",
    Phase.REFUSED: "failed",
    Phase.ROLLED_BACK: "failed",
    Phase.SUPERSEDED: "failed",
}


def take_report(session: Session, state: ReportedState, *, signing: Signing, now: float) -> tuple[str, ...]:
    """What a device's report means for commits and rollouts."""
    return take_deployments(session, state.device, state.deployments, signing=signing, now=now)


def take_deployments(
    session: Session, device: str, deployments: Iterable[DeploymentReport], *, signing: Signing, now: float
) -> tuple[str, ...]:
    """What a device says of its deployments, by whatever way it came: each outcome counts once, the first one."""
    reports = {report.deployment: report for report in deployments}
    _note_commits(session, device, reports.values(), now)
    changed: list[str] = []
    query = select(RolloutDevice).where(RolloutDevice.device == device)
    for member in session.scalars(query.order_by(RolloutDevice.rollout)).all():
        row = get_rollout(session, member.rollout)
        for event in _events(member, reports, now):
            if (Status(row.status), type(event)) in machine.TRANSITIONS:
                changed += apply(session, row, event, signing, now)
    return tuple(dict.fromkeys(changed))


def _events(member: RolloutDevice, reports: dict[str, DeploymentReport], now: float) -> list[machine.Event]:
    events: list[machine.Event] = []
    report = reports.get(member.deployment)
    outcome = _OUTCOMES.get(report.phase) if report else None
    if report and outcome:
        reason = _reason(report)
        events.append(machine.DeviceReported(now=now, device=member.device, outcome=outcome, reason=reason))
    back = reports.get(member.restore) if member.restore else None
    outcome = _OUTCOMES.get(back.phase) if back else None
    if back and outcome:
        events.append(
            machine.DeviceRestored(now=now, device=member.device, outcome=outcome, reason=_reason(back))
        )
    return events


def _reason(report: DeploymentReport) -> str | None:
    if report.phase is Phase.COMMITTED:
        return None
    if report.reason is None:
        return report.phase.value
    return f"{report.phase.value}, {report.reason.text} ({report.reason.code})"


def _note_commits(session: Session, device: str, reports: Iterable[DeploymentReport], now: float) -> None:
    """A deployment that the hub asks for now and the device has committed is what later rollbacks go back to."""
    for report in reports:
        if report.phase is not Phase.COMMITTED:
            continue
        asked = session.get(DesiredAssignment, (device, report.model))
        if asked is None or asked.deployment != report.deployment:
            continue
        row = session.get(CommittedRelease, (device, report.model))
        if row is None:
            row = CommittedRelease(device=device, model=report.model, deployment="")
            session.add(row)
        if row.deployment != report.deployment:
            row.release, row.deployment, row.at = report.release, report.deployment, now
    session.flush()
