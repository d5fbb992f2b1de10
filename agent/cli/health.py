"""Is the device fine? If not: what is wrong, and what to do. Pure: a status in, findings out."""

from collections import defaultdict
from typing import Literal

from msgspec import Struct

from agent.cli.budget_words import WORDS
from agent.protocol.control import StatusResult
from agent.protocol.progress import fetching
from agent.protocol.state import DeploymentReport, Phase, ServingReport, TrustReport

FAILURE_RATE = 0.01
"""From this share of failed requests on, someone has to act."""

_CLOCK = "compare the clock with your own (date -u), and set it where it is wrong (timedatectl)"

_REPAIRS = defaultdict(
    lambda: "see edgeward events",
    {
        "state-damaged": "the models serve on and no update is taken: docs/durability.md, Both copies lost",
        "trust-damaged": "the models serve on and no update is taken: docs/durability.md, Both copies lost",
        "disk-refuses": "make room, or look at the disk (df -h, dmesg); it is tried again by itself",
        "telemetry-unavailable": "make room, or look at the disk (df -h, dmesg); it is tried again by itself",
    },
)
"""Reason code of a problem with the device's own memory → what to do."""

Severity = Literal["problem", "notice"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing a technician should know; a ``problem`` needs someone to act, a ``notice`` does not."""

    severity: Severity
    text: str
    todo: str


def findings(status: StatusResult) -> tuple[Finding, ...]:
    """What is wrong or worth knowing, problems first; empty where all is well."""
    state = status.state
    found: list[Finding] = []
    if not state.serving:
        found.append(
            _problem(
                "no model serves: requests are answered 503",
                "see what the agent waits for: edgeward plan"
                if status.connected
                else "connect the device first",
            )
        )
    for serving in state.serving:
        found += _serving(serving)
    newest = {report.model: report for report in sorted(state.deployments, key=lambda report: report.since)}
    for deployment in newest.values():
        found += _deployment(deployment)
    if state.refusal is not None:
        found.append(
            _problem(
                f"the newest desired state was not taken: {state.refusal.text} ({state.refusal.code})",
                "what served before goes on; tell whoever runs the hub",
            )
        )
    found += [_problem(f"{each.text} ({each.code})", _REPAIRS[each.code]) for each in state.problems]
    found += _trust(state.trust)
    found += _link(status)
    found += _telemetry(status)
    return tuple(sorted(found, key=lambda finding: finding.severity != "problem"))


def _problem(text: str, todo: str) -> Finding:
    return Finding(severity="problem", text=text, todo=todo)


def _notice(text: str, todo: str) -> Finding:
    return Finding(severity="notice", text=text, todo=todo)


def _serving(serving: ServingReport) -> list[Finding]:
    name = f"{serving.model} release {serving.release}"
    found = []
    if not serving.ready:
        found.append(
            _problem(
                f"{name} is not ready: its runner is down or starting",
                f"see why: edgeward events; go back to the release before: edgeward rollback {serving.model}",
            )
        )
    if serving.failures:
        text = f"{name} failed {serving.failures} of {serving.requests} requests"
        todo = f"see edgeward events; go back to the release before: edgeward rollback {serving.model}"
        often = serving.failures >= FAILURE_RATE * serving.requests
        found.append(_problem(text, todo) if often else _notice(text, todo))
    if serving.refused:
        text = f"{name} refused {serving.refused} requests for their shape, datatype or form"
        found.append(_notice(text, "look at what the client sends; the answer it got names the field"))
    found += _level(serving, name)
    if serving.drift == "drift":
        found.append(
            _problem(
                f"{serving.model}: the input has drifted from what the model was made with "
                f"({serving.drift_rows} rows seen)",
                f"check the sensor (lens, light, mounting), then: edgeward drift {serving.model}",
            )
        )
    elif serving.drift == "warning":
        found.append(
            _notice(
                f"{serving.model}: the input begins to drift ({serving.drift_rows} rows seen)",
                f"watch it: edgeward drift {serving.model}",
            )
        )
    return found


def _level(serving: ServingReport, name: str) -> list[Finding]:
    found = []
    verdict = serving.service_level
    if verdict is not None and verdict.level == "broken":
        found.append(
            _problem(
                f"{name} breaks its service level: {verdict.text}",
                "see what else uses the processor and whether it is too hot; "
                f"go back to the release before: edgeward rollback {serving.model}",
            )
        )
    if serving.degraded is not None and serving.degraded.code == "artifact-damaged":
        found.append(
            _problem(
                f"{name} stands in: {serving.degraded.text}",
                "it is fetched again by itself; where that happens often, look at the disk (dmesg, smartctl)",
            )
        )
    elif serving.degraded is not None:
        found.append(
            _notice(
                f"{name} is served by its smaller variant {serving.variant}: {serving.degraded.text}",
                "the chosen one comes back by itself once the level has been kept for a while",
            )
        )
    if serving.turned_away:
        text = f"{name} turned {serving.turned_away} requests away because too many were waiting"
        found.append(_notice(text, "ask less often, or raise serving.queue_depth"))
    return found


def _deployment(deployment: DeploymentReport) -> list[Finding]:
    name = f"{deployment.model} release {deployment.release}"
    why = "no reason was recorded" if deployment.reason is None else deployment.reason.text
    if deployment.phase in (Phase.REFUSED, Phase.ROLLED_BACK):
        return [
            _problem(
                f"{name} was {deployment.phase.value.replace('-', ' ')}: {why}",
                "the release before goes on serving; a new deployment from the hub tries again",
            )
        ]
    if deployment.waiting_for is not None:
        return [_notice(f"{name} waits: {deployment.waiting_for.text}", _way_on(deployment))]
    if deployment.phase not in (Phase.COMMITTED, Phase.SUPERSEDED):
        how_far = deployment.phase.value if deployment.progress is None else fetching(deployment.progress)
        return [_notice(f"{name} is being installed: {how_far}", "nothing; it takes a while")]
    return []


_WAYS_ON = {
    "held-on-device": "let updates go on: edgeward resume",
    "held-by-hub": "nothing here; whoever runs the hub lets it go on",
    "needs-operator": "when it suits: edgeward accept {model}",
    "outside-window": "nothing; to install it at once: edgeward accept {model} --now",
    "clock-not-set": "see why the clock is not set (timedatectl); to install it all the same: edgeward accept {model} --now",
    "metered-network": "nothing; to download it all the same: edgeward accept {model} --now",
    "low-battery": "plug it in; to install it all the same: edgeward accept {model} --now",
    "too-hot": "see what keeps the processor busy; to install it all the same: edgeward accept {model} --now",
    "low-disk": "make room on the file system of device.state_dir",
    "on-probation": "nothing; it ends by itself",
}


def _way_on(deployment: DeploymentReport) -> str:
    """What can be done about what a deployment waits for."""
    code = "" if deployment.waiting_for is None else deployment.waiting_for.code
    return _WAYS_ON.get(code, "see edgeward plan").format(model=deployment.model)


def _trust(trust: TrustReport | None) -> list[Finding]:
    if trust is None:
        return []
    hub = "tell whoever runs the hub"
    return [
        _notice(warning.text, _CLOCK if warning.code == "clock-behind" else hub)
        if warning.code in {"role-expires", "clock-behind"}
        else _problem(warning.text, f"{_CLOCK}; else {hub}" if warning.code == "clock-ahead" else hub)
        for warning in trust.warnings
    ]


def _link(status: StatusResult) -> list[Finding]:
    found = []
    if not status.connected:
        why = "" if status.link_problem is None else f" ({status.link_problem})"
        found.append(
            _problem(
                f"no connection to the hub{why}; {status.state.outbox.pending} telemetry records wait on the device",
                "models go on serving; check the network, then: edgeward sync",
            )
        )
    if status.state.held:
        why = "" if status.hold is None else f": {status.hold.text}"
        found.append(_notice(f"the device is held{why}", "let updates go on: edgeward resume"))
    return found


def _telemetry(status: StatusResult) -> list[Finding]:
    outbox = status.state.outbox
    dropped = sum(outbox.dropped.values())
    found = []
    if dropped:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(outbox.dropped.items()) if count)
        found.append(
            _notice(
                f"{dropped} telemetry records were dropped ({kinds})",
                "raise telemetry.outbox_bytes if the device is often offline",
            )
        )
    budget = outbox.budget
    if budget is not None and budget.thinning != "none":
        found.append(
            _notice(
                f"telemetry's bytes for {budget.month} get short: {WORDS[budget.thinning]}",
                "nothing is lost; if it is wanted sooner, raise telemetry.monthly_bytes",
            )
        )
    errors = {kind: count for kind, count in sorted(status.state.errors.items()) if count}
    if errors:
        kinds = ", ".join(f"{kind} {count}" for kind, count in errors.items())
        found.append(_notice(f"counted since the start: {kinds}", "see edgeward events"))
    return found
