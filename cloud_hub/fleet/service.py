"""What is wrong with the fleet, in plain words, with what to do; pure over what was read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from agent.protocol.ids import UnixTime
from agent.protocol.state import DeploymentReport, Phase, ReportedState, ServingReport
from agent.protocol.telemetry import TelemetryCounts
from cloud_hub.bridge.counters import BridgeReport
from cloud_hub.bundles.receipts import ReceiptView
from cloud_hub.devices.service import DeviceView
from cloud_hub.fleet.expiry import left
from cloud_hub.registry.service import ReleaseState, ReleaseView
from cloud_hub.rollouts.machine import ENDED, Status
from cloud_hub.rollouts.views import RolloutView
from cloud_hub.signing.expiry import Life
from cloud_hub.telemetry.views import ReleaseDrift

Severity = Literal["error", "warning", "info"]
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}
SECONDS_A_DAY = 86_400
CERTIFICATE_DAYS_LEFT = 30

UNTRUSTED = frozenset({"not-approved", "unknown-model", "bad-signature", "rollback-attack", "mix-and-match"})
"""Reasons of a device that point at the hub, not at the device."""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that someone should know."""

    severity: Severity
    where: str
    what: str
    to_do: str


class FleetSummary(Struct, frozen=True, kw_only=True):
    """``GET /v1/fleet``."""

    time: UnixTime
    findings: tuple[Finding, ...]
    """The worst first."""
    devices: int
    online: int
    serving: dict[str, dict[str, int]]
    """Model → release → devices that serve it and are ready."""
    rollouts_open: int
    telemetry_records: int
    bridge: BridgeReport


class FleetFacts(Struct, frozen=True, kw_only=True):
    """Everything that the summary is made from."""

    now: float
    devices: Sequence[DeviceView]
    releases: Sequence[ReleaseView]
    rollouts: Sequence[RolloutView]
    drift: Sequence[ReleaseDrift]
    counts: dict[str, tuple[TelemetryCounts, ...]]
    receipts: dict[str, ReceiptView]
    """Device → its newest receipt of a bundle."""
    bridge: BridgeReport
    has_root: bool
    lives: Sequence[Life] = ()
    """Roles and certificates, with until when they hold."""


def summarise(facts: FleetFacts) -> FleetSummary:
    """Sort what is wrong before what is well."""
    serving: dict[str, dict[str, int]] = {}
    for device in facts.devices:
        for report in device.reported.serving if device.reported and device.online else ():
            if report.ready:
                by_release = serving.setdefault(report.model, {})
                by_release[str(report.release)] = by_release.get(str(report.release), 0) + 1
    return FleetSummary(
        time=facts.now,
        findings=tuple(sorted(_findings(facts), key=lambda finding: _ORDER[finding.severity])),
        devices=len(facts.devices),
        online=sum(device.online for device in facts.devices),
        serving=serving,
        rollouts_open=sum(rollout.state.status not in ENDED for rollout in facts.rollouts),
        telemetry_records=sum(epoch.records for epochs in facts.counts.values() for epoch in epochs),
        bridge=facts.bridge,
    )


def _findings(facts: FleetFacts) -> list[Finding]:
    found = _hub_findings(facts)
    found += [_life_finding(life, facts.now) for life in facts.lives if life.severity is not None]
    for release in facts.releases:
        found += _withdrawn_findings(release, facts)
    for rollout in facts.rollouts:
        found += _rollout_findings(rollout)
    for device in facts.devices:
        found += _device_findings(device, facts.receipts.get(device.id), facts.now)
    for drift in facts.drift:
        found += _drift_findings(drift)
    for release in facts.releases:
        if release.state is ReleaseState.SUBMITTED:
            found.append(
                Finding(
                    severity="info",
                    where=f"{release.model} {release.release}",
                    what="This release waits for approvers' signatures.",
                    to_do=f"Approvers: edgeward-hub approve … {release.model} {release.release}",
                )
            )
    return found


def _hub_findings(facts: FleetFacts) -> list[Finding]:
    found: list[Finding] = []
    if not facts.has_root:
        found.append(
            Finding(
                severity="error",
                where="hub",
                what="There is no trusted root yet, so no device can enrol and nothing can be released.",
                to_do="Hold a ceremony: edgeward-hub ceremony create",
            )
        )
    if not facts.bridge.connected:
        found.append(
            Finding(
                severity="error",
                where="hub",
                what="The hub has no connection to the MQTT broker: it hears no device.",
                to_do="Check that the broker runs and that [broker] in hub.toml names it.",
            )
        )
    refused = {kind: count for kind, count in facts.bridge.refused.items() if kind != "not-connected"}
    if refused:
        newest = facts.bridge.newest[0].text if facts.bridge.newest else ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(refused.items()))
        found.append(
            Finding(
                severity="warning",
                where="hub",
                what=f"Messages were refused since the start: {kinds}. The newest: {newest}",
                to_do="See bridge.newest in GET /v1/fleet; look at the device that sends them.",
            )
        )
    return found


def _life_finding(life: Life, now: float) -> Finding:
    what = f"{life.name}: {left(life, now)}. To be renewed by {life.who}. After that, devices install nothing new."
    return Finding(severity=life.severity or "warning", where="trust", what=what, to_do=life.command)


def _withdrawn_findings(release: ReleaseView, facts: FleetFacts) -> list[Finding]:
    """Devices that still serve what the approvers have taken back."""
    if release.state is not ReleaseState.WITHDRAWN or release.published is None:
        return []
    name = f"{release.model} {release.release}"
    serving = [
        device.id
        for device in facts.devices
        for report in (device.reported.serving if device.reported else ())
        if (report.model, report.release) == (release.model, release.release)
    ]
    if not serving:
        return []
    held = [device.id for device in facts.devices if device.hold is not None and device.id in serving]
    return [
        Finding(
            severity="error",
            where=name,
            what=f"Its approvers have withdrawn it, and {len(serving)} devices said they serve it: {', '.join(serving[:5])}.",
            to_do="Give them another release: edgeward-hub rollout rollback, or rollout start with a newer one."
            + (f" Resume those that you hold: {', '.join(held[:5])}." if held else ""),
        )
    ]


def _rollout_findings(rollout: RolloutView) -> list[Finding]:
    where = f"rollout {rollout.id}: {rollout.model} {rollout.release}"
    state = rollout.state
    if state.status is Status.PAUSED:
        by_itself = (state.reason or "").startswith("paused by itself")
        return [
            Finding(
                severity="error" if by_itself else "warning",
                where=where,
                what=f"The rollout is {state.reason or 'paused'}.",
                to_do="Roll it back, or resume it to accept what failed: "
                f"edgeward-hub rollout rollback {rollout.id}",
            )
        ]
    if state.status is Status.ROLLING_BACK and "still no answer" in (state.reason or ""):
        return [
            Finding(severity="error", where=where, what=f"{state.reason}.", to_do="Look at these devices.")
        ]
    return []


def _device_findings(device: DeviceView, receipt: ReceiptView | None, now: float) -> list[Finding]:
    found: list[Finding] = []

    def add(severity: Severity, what: str, to_do: str) -> None:
        found.append(Finding(severity=severity, where=device.id, what=what, to_do=to_do))

    if device.revoked is not None:
        add(
            "info",
            f"Its identity was revoked: {device.revoked_reason}.",
            "See that the broker has the new list: edgeward-hub devices --crl FILE, then reload the broker.",
        )
        return found
    if receipt is not None and receipt.imported > (device.reported_at or 0) and not device.online:
        add(*_receipt_finding(receipt))
    elif device.reported is None:
        add(
            "warning",
            "Enrolled, but it has never reported.",
            "Start its agent and check that it reaches the broker.",
        )
    elif not device.online:
        add("warning", "Offline. It goes on serving what it has.", "Check its power and its network.")
    if device.hold is not None:
        what = f"{device.hold.text[0].upper()}{device.hold.text[1:]}."
        add("info", what, f"When that is over: edgeward-hub devices resume {device.id}")
    if device.certificate_expires - now < CERTIFICATE_DAYS_LEFT * SECONDS_A_DAY:
        days = max(0, int((device.certificate_expires - now) / SECONDS_A_DAY))
        add(
            "warning",
            f"Its certificate expires in {days} days.",
            "Enrol it again with a token for this device.",
        )
    if device.reported is not None:
        for severity, what, to_do in _report_findings(device.reported):
            add(severity, what, to_do)
    return found


def _receipt_finding(receipt: ReceiptView) -> tuple[Severity, str, str]:
    """The newest that is known of a device that no network reaches."""
    day = f"{datetime.fromtimestamp(receipt.time, UTC):%Y-%m-%d}"
    if receipt.refusal is not None:
        return (
            "error",
            f"By its receipt of {day} it refused a bundle: {receipt.refusal.text} ({receipt.refusal.code}).",
            "It serves what it had. Export a new bundle and bring it there.",
        )
    reports = receipt.deployments
    said = ", ".join(f"{each.model} {each.release} {each.phase.value.replace('-', ' ')}" for each in reports)
    failed = [each for each in reports if each.phase in (Phase.REFUSED, Phase.ROLLED_BACK)]
    if failed:
        why = failed[0].reason.text if failed[0].reason else "no reason given"
        return ("error", f"By its receipt of {day}: {said}: {why}", _what_to_do(failed[0]))
    return (
        "info",
        f"No network reaches it; by its receipt of {day}: {said}.",
        "Nothing, if that is so; the next bundle and its receipt tell more.",
    )


def _report_findings(state: ReportedState) -> list[tuple[Severity, str, str]]:
    found: list[tuple[Severity, str, str]] = []
    if state.refusal is not None:
        found.append(
            (
                "error" if state.refusal.code != "no-network" else "warning",
                f"It refuses what the hub asks for: {state.refusal.text} ({state.refusal.code}). It keeps serving.",
                "If nobody tampered with the hub, hold a new approval; otherwise treat the hub as stolen.",
            )
        )
    for report in _newest_by_model(state):
        if report.phase in (Phase.REFUSED, Phase.ROLLED_BACK):
            why = f"{report.reason.text} ({report.reason.code})" if report.reason else "no reason given"
            found.append(
                (
                    "error",
                    f"{report.model} {report.release} was {report.phase.value.replace('-', ' ')}: {why}",
                    _what_to_do(report),
                )
            )
        elif report.waiting_for is not None:
            text = f"{report.model} {report.release} waits: {report.waiting_for.text}"
            found.append(_waiting(report.waiting_for.code, text, report.model))
    found += [
        (
            "error",
            f"{serving.model} {serving.release} is not ready.",
            "See its events on the device: edgeward events",
        )
        for serving in state.serving
        if not serving.ready
    ]
    for serving in state.serving:
        found += _level_findings(serving)
    found += [
        (
            "error",
            f"Its own memory: {problem.text} ({problem.code}).",
            "On the device: edgeward status says what to do.",
        )
        for problem in state.problems
    ]
    if state.held:
        found.append(("info", "A technician holds it: updates wait.", "On the device: edgeward resume"))
    lost = sum(state.outbox.dropped.values())
    if lost:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(state.outbox.dropped.items()))
        found.append(
            ("warning", f"{lost} telemetry records were dropped: {kinds}.", "Give it network or space.")
        )
    return found


_WAYS_ON: dict[str, tuple[Severity, str]] = {
    "held-on-device": ("warning", "A technician on the device ends the hold: edgeward resume"),
    "held-by-hub": ("info", "It was asked for here; to end it: edgeward-hub devices resume"),
    "needs-operator": ("warning", "Somebody at the device accepts it: edgeward accept {model}"),
    "outside-window": (
        "info",
        "Nothing. To install it at once, on the device: edgeward accept {model} --now",
    ),
    "clock-not-set": ("warning", "Look at the device's clock: it keeps maintenance windows by it."),
    "metered-network": (
        "info",
        "It goes on by a cheaper network. To fetch it all the same, on the device: edgeward accept {model} --now",
    ),
    "low-battery": ("warning", "Have it charged."),
    "too-hot": ("warning", "Look at the device: heat, a fan, other work on its processor."),
    "low-disk": ("warning", "Make room on the device, where Edgeward keeps its state."),
    "on-probation": ("info", "Nothing; it ends by what the device sees."),
}


def _waiting(code: str, text: str, model: str) -> tuple[Severity, str, str]:
    """What to do about a device that waits."""
    severity, to_do = _WAYS_ON.get(code, ("info", "It goes on by itself, or says why not."))
    return severity, text, to_do.format(model=model)


def _level_findings(serving: ServingReport) -> list[tuple[Severity, str, str]]:
    found: list[tuple[Severity, str, str]] = []
    name, verdict = f"{serving.model} {serving.release}", serving.service_level
    if verdict is not None and verdict.level == "broken":
        found.append(
            (
                "error",
                f"{name} breaks its service level: {verdict.text}",
                "Look at the device: heat, other work on its processor. If many break it, look at the release.",
            )
        )
    if serving.degraded is not None and serving.degraded.code == "artifact-damaged":
        found.append(
            (
                "error",
                f"{name} stands in: {serving.degraded.text}",
                "It is fetched again by itself. If that happens often, replace the device's disk.",
            )
        )
    elif serving.degraded is not None:
        found.append(
            (
                "warning",
                f"{name} is served by its smaller variant {serving.variant}: {serving.degraded.text}",
                "It comes back by itself. If it does so often, the chosen variant is too heavy for this device.",
            )
        )
    return found


def _what_to_do(report: DeploymentReport) -> str:
    """A release that no approver signed is never the device's fault."""
    if report.reason is not None and report.reason.code in UNTRUSTED:
        return (
            "It serves what it had. No device takes it. If this hub calls it approved, someone has changed the hub: "
            "compare the audit log with a copy kept elsewhere."
        )
    return "Read the reason; fix the release, or the device. It serves what it had."


def _newest_by_model(state: ReportedState) -> list[DeploymentReport]:
    """The newest deployment of each model: an older failure has been overtaken."""
    newest: dict[str, DeploymentReport] = {}
    for report in sorted(state.deployments, key=lambda report: report.since):
        newest[report.model] = report
    return list(newest.values())


DRIFTING_NAMED = 10
"""Devices of one release that have a finding each; the rest share one."""


def _drift_findings(drift: ReleaseDrift) -> list[Finding]:
    name = f"{drift.model} {drift.release}"
    moving = [device for device in drift.devices if device.level in ("drift", "warning")]
    found = [
        Finding(
            severity="error" if device.level == "drift" else "warning",
            where=device.device,
            what=f"Its input no longer looks like the data {name} was made from. "
            f"{device.verdict.reason if device.verdict else ''}",
            to_do="Look at the device first (a dirty lens, a moved sensor); "
            "if many devices drift, the world has changed: retrain.",
        )
        for device in moving[:DRIFTING_NAMED]
    ]
    if len(moving) > DRIFTING_NAMED:
        found.append(
            Finding(
                severity="error" if drift.levels.get("drift", 0) > DRIFTING_NAMED else "warning",
                where=name,
                what=f"{len(moving) - DRIFTING_NAMED} more devices drift or move.",
                to_do="If many devices drift, the world has changed: retrain.",
            )
        )
    if drift.fleet is not None and drift.fleet.split:
        found.append(
            Finding(
                severity="warning",
                where=name,
                what=drift.fleet.text,
                to_do="Look at the devices that were left out; where they are of another kind, give them a model of their own.",
            )
        )
    if drift.problem is not None:
        found.append(
            Finding(
                severity="warning",
                where=name,
                what=f"Drift over the fleet cannot be judged: {drift.problem}",
                to_do="Upload releases with their drift reference.",
            )
        )
    return found
