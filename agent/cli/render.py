"""Answers for people, by rich. Whatever came from outside is printed as plain text, control characters replaced."""

import sys
from datetime import UTC, datetime
from functools import singledispatch

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli.health import Finding, findings
from agent.cli.label_words import FIGURE_COLUMNS, answer_lines, figure_notes, figure_row
from agent.protocol.control import (
    AccuracyResult,
    ControlResult,
    DataResult,
    Done,
    DriftResult,
    EventsResult,
    LabelResult,
    ModelReport,
    ModelsResult,
    PlanResult,
    SamplesResult,
    SlotReport,
    StatusResult,
)
from agent.protocol.drift import DriftWindow
from agent.protocol.progress import fetching, size
from agent.protocol.state import Measurement, Reason, ServingReport, ShadowFigures

PLAIN_WIDTH = 120
"""Columns where the output is not a terminal."""

_STYLES = {
    "problem": "bold red",
    "error": "red",
    "drift": "red",
    "broken": "red",
    "notice": "yellow",
    "warning": "yellow",
    "ok": "green",
}


def render(result: ControlResult) -> None:
    """Print one answer to standard output."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    _render(result, console)


@singledispatch
def _render(result: ControlResult, console: Console) -> None:
    raise NotImplementedError(type(result).__name__)


def plain(value: object, style: str = "") -> Text:
    """``value`` as text without control characters (a release's words must not steer a terminal)."""
    if value is None:
        return Text("-")
    shown = "".join(letter if letter.isprintable() else "�" for letter in str(value))
    return Text(shown, style=style)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@_render.register
def _status(result: StatusResult, console: Console) -> None:
    state, found = result.state, findings(result)
    problems = [finding for finding in found if finding.severity == "problem"]
    if problems:
        many = "1 thing is wrong" if len(problems) == 1 else f"{len(problems)} things are wrong"
        console.print(plain(f"{state.device}: {many}", _STYLES["problem"]))
    else:
        console.print(plain(f"{state.device}: all is well", _STYLES["ok"]))
    for finding in found:
        _finding(finding, console)
    console.print()
    if state.serving:
        table = _table(
            *("MODEL", "RELEASE", "VARIANT", "READY", "REQUESTS", "FAILED"),
            *("P50 MS", "P95 MS", "P99 MS", "LEVEL", "MIB", "DRIFT"),
        )
        for serving in state.serving:
            table.add_row(*_serving_row(serving))
        console.print(table)
    outbox = state.outbox
    console.print(
        plain(
            f"hub {'connected' if result.connected else 'not connected'}"
            f" · telemetry {outbox.acknowledged} of {outbox.recorded} acknowledged, {outbox.pending} waiting"
            f" · agent {state.agent_version} on {state.hardware_class} · {_time(state.time)}"
        )
    )


def _finding(finding: Finding, console: Console) -> None:
    console.print(Text.assemble("  ", plain(finding.text, _STYLES[finding.severity])))
    console.print(Text.assemble("    → ", plain(finding.todo)))


def _serving_row(serving: ServingReport) -> list[Text]:
    drift = serving.drift or "not judged yet"
    if serving.drift_rows is not None:
        drift = f"{drift} ({serving.drift_rows} rows)"
    level = None if serving.service_level is None else serving.service_level.level
    return [
        plain(serving.model),
        plain(serving.release),
        plain(f"{serving.variant} (degraded)", _STYLES["warning"])
        if serving.degraded
        else plain(serving.variant),
        plain("yes", _STYLES["ok"]) if serving.ready else plain("no", _STYLES["problem"]),
        plain(serving.requests),
        plain(serving.failures, _STYLES["error"] if serving.failures else ""),
        plain(_number(serving.p50_ms)),
        plain(_number(serving.p95_ms)),
        plain(_number(serving.p99_ms)),
        plain(level, _STYLES.get(level or "", "")),
        plain(_number(serving.memory_mib)),
        plain(drift, _STYLES.get(serving.drift or "", "")),
    ]


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


@_render.register
def _models(result: ModelsResult, console: Console) -> None:
    if not result.models:
        console.print(plain("no model is installed or assigned; see what the agent waits for: edgeward plan"))
        return
    table = _table("MODEL", "ACTIVE", "CANDIDATE", "PREVIOUS", "FLOOR", "NEWEST DEPLOYMENT", "WHY", "ADDRESS")
    for model in result.models:
        table.add_row(*_model_row(model))
    console.print(table)
    for model in result.models:
        _variants(model, console)


def _model_row(model: ModelReport) -> list[Text]:
    deployment, why = model.deployment, None
    newest = None
    if deployment is not None:
        newest = f"{deployment.deployment} (release {deployment.release}): {deployment.phase.value}"
        cause = deployment.waiting_for or deployment.reason
        why = None if cause is None else cause.text
        if why is None and deployment.progress is not None:
            why = fetching(deployment.progress)
    slots = (model.active, model.candidate, model.previous)
    return [
        plain(model.model),
        *(plain(_slot(slot)) for slot in slots),
        plain(model.floor),
        plain(newest),
        plain(why),
        plain(model.address),
    ]


def _variants(model: ModelReport, console: Console) -> None:
    """The variants that the newest deployment tried, what they measured here, and why one was chosen."""
    deployment, serving = model.deployment, model.serving
    if deployment is not None and (deployment.tried or deployment.measurement or deployment.chosen):
        console.print()
        console.print(
            Text.assemble(plain(model.model, "bold"), f" release {deployment.release}, measured here:")
        )
        table = _table("VARIANT", "P50 MS", "P99 MS", "BUDGET", "PEAK MIB", "BUDGET", "VERDICT")
        for tried in deployment.tried:
            table.add_row(plain(tried.variant), *_measured(tried.measurement), plain(_why(tried.reason)))
        if deployment.measurement is not None:
            verdict = deployment.chosen or deployment.reason
            name = plain(deployment.measurement.variant)
            table.add_row(name, *_measured(deployment.measurement), plain(verdict and _why(verdict)))
        elif deployment.chosen is not None:
            table.add_row(plain(None), *_measured(None), plain(_why(deployment.chosen)))
        console.print(table)
        if deployment.measurement is not None and deployment.measurement.shadow is not None:
            console.print(plain(_shadow(deployment.measurement.shadow)))
    if serving is not None and serving.service_level is not None:
        console.print(plain(f"service level: {serving.service_level.level}: {serving.service_level.text}"))
    if serving is not None and serving.degraded is not None:
        console.print(
            plain(f"degraded: {serving.variant} serves: {serving.degraded.text}", _STYLES["warning"])
        )


def _shadow(seen: ShadowFigures) -> str:
    text = f"on live requests: {seen.text}"
    if seen.p50_ms is None:
        return text
    return f"{text} (answered at low priority: p50 {_number(seen.p50_ms)} ms, p99 {_number(seen.p99_ms)} ms)"


def _measured(measurement: Measurement | None) -> list[Text]:
    if measurement is None:
        return [plain(None)] * 5
    m = measurement
    figures = (m.p50_ms, m.p99_ms, m.budget_p99_ms, m.peak_memory_mib, m.budget_memory_mib)
    return [plain(_number(figure)) for figure in figures]


def _slot(slot: SlotReport | None) -> str | None:
    if slot is None:
        return None
    standby = "" if slot.standby is None else f" (standby {slot.standby})"
    return f"{slot.release} {slot.variant}{standby}"


@_render.register
def _drift(result: DriftResult, console: Console) -> None:
    if not result.windows:
        console.print(plain("no drift window has closed yet: a window closes by its rows or by its age"))
        return
    newest: dict[str, DriftWindow] = {}
    for window in result.windows:
        newest.setdefault(window.model, window)
    for model, window in sorted(newest.items()):
        console.print(
            Text.assemble(plain(model, "bold"), " ", _level(window), ": ", plain(window.verdict.reason))
        )
    console.print()
    table = _table("CLOSED", "MODEL", "RELEASE", "VERDICT", "ROWS", "MOVED MOST (PSI, P)")
    for window in result.windows:
        table.add_row(
            plain(_time(window.closed)),
            plain(window.model),
            plain(window.release),
            _level(window),
            plain(window.rows),
            plain(_moved(window)),
        )
    console.print(table)


def _level(window: DriftWindow) -> Text:
    return plain(window.verdict.level, _STYLES.get(window.verdict.level, ""))


def _moved(window: DriftWindow) -> str:
    moved = (
        f"{one.signal} ({'' if one.statistic == 'psi' else one.statistic + ' '}{one.value:.2f}, {one.p_value:.2g})"
        for one in window.verdict.moved_most
    )
    return ", ".join(moved) or "nothing"


@_render.register
def _events(result: EventsResult, console: Console) -> None:
    if not result.events:
        console.print(plain("nothing is recorded yet"))
        return
    table = _table("TIME", "SEVERITY", "KIND", "MODEL", "RELEASE", "TEXT")
    for event in result.events:
        severity = plain(event.severity, _STYLES.get(event.severity, ""))
        what = (plain(event.kind), plain(event.model), plain(event.release), plain(event.text))
        table.add_row(plain(_time(event.time)), severity, *what)
    console.print(table)


@_render.register
def _plan(result: PlanResult, console: Console) -> None:
    if result.refusal is not None:
        console.print(
            plain(f"the newest desired state was not taken: {_why(result.refusal)}", _STYLES["problem"])
        )
    if not result.steps:
        console.print(plain("nothing to do: no desired state names a model yet"))
        return
    table = _table("MODEL", "NEXT", "RELEASE", "DEPLOYMENT", "WHY")
    for step in result.steps:
        table.add_row(
            plain(step.model),
            plain(step.action, "" if step.action == "nothing" else "bold"),
            plain(step.release),
            plain(step.deployment),
            plain(_why(step.reason)),
        )
    console.print(table)


@_render.register
def _data(result: DataResult, console: Console) -> None:
    """Network by month and purpose, flash by deployment."""
    ledger = result.ledger
    if ledger.traffic:
        table = _table("MONTH", "FOR", "RECEIVED", "SENT")
        for month in dict.fromkeys(each.month for each in ledger.traffic):
            rows = [each for each in ledger.traffic if each.month == month]
            for row in sorted(rows, key=lambda each: -(each.bytes_in + each.bytes_out)):
                table.add_row(
                    plain(month), plain(row.purpose), plain(size(row.bytes_in)), plain(size(row.bytes_out))
                )
            both = [sum(each.bytes_in for each in rows), sum(each.bytes_out for each in rows)]
            table.add_row(plain(month), plain("all", "bold"), *(plain(size(each), "bold") for each in both))
        console.print(table)
        console.print(plain("without TLS, TCP and MQTT's keepalives: docs/transfer.md"))
    else:
        console.print(plain("nothing was sent or received yet"))
    if ledger.flash:
        console.print()
        table = _table("UPDATE", "MODEL", "RELEASE", "BEGAN", "ENDED", "WRITTEN TO FLASH")
        for run in ledger.flash:
            ended = "under way, or cut off" if run.ended is None else _time(run.ended)
            table.add_row(
                plain(run.deployment),
                plain(run.model),
                plain(run.release),
                plain(_time(run.began)),
                plain(ended),
                plain(size(run.written_bytes)),
            )
        console.print(table)


@_render.register
def _label(result: LabelResult, console: Console) -> None:
    for line in answer_lines(result):
        console.print(plain(line))


@_render.register
def _accuracy(result: AccuracyResult, console: Console) -> None:
    if result.figures:
        table = _table(*FIGURE_COLUMNS)
        for figure in result.figures:
            style = _STYLES["warning"] if figure.suspicious or figure.contradicts else ""
            table.add_row(*(plain(cell, style) for cell in figure_row(figure)))
        console.print(table)
    else:
        console.print(plain("no labels yet: tell what was right by `edgeward label` (docs/labels.md)"))
    for note in figure_notes(result):
        console.print(plain(note))


def _why(reason: Reason) -> str:
    return f"{reason.text} ({reason.code})"


@_render.register
def _samples(result: SamplesResult, console: Console) -> None:
    state = "inputs are kept" if result.enabled else "no inputs are kept: samples.enabled is not set"
    leaving = "may leave" if result.may_leave else "may not leave"
    room = f"{result.count} samples, {size(result.size_bytes)} of {size(result.maximum_bytes)}"
    console.print(plain(f"{state}; {room}; they {leaving} the device when an approver asks"))
    if result.samples:
        console.print()
        table = _table("TAKEN", "MODEL", "RELEASE", "WHY", "CONFIDENCE", "SIZE", "LEFT", "SAMPLE")
        for each in result.samples:
            table.add_row(
                plain(_time(each.time)),
                plain(each.model),
                plain(each.release),
                plain(", ".join(each.why)),
                plain(_number(each.confidence)),
                plain(size(each.size_bytes)),
                plain(None if each.left is None else _time(each.left)),
                plain(each.id),
            )
        console.print(table)
    if result.departures:
        console.print()
        table = _table("ASKED", "REQUEST", "MODEL", "APPROVER'S KEY", "ANSWER", "LEFT", "ARRIVED", "FOR")
        for one in result.departures:
            table.add_row(
                plain(_time(one.time)),
                plain(one.request),
                plain(one.model),
                plain(None if one.approver is None else one.approver[:8]),
                plain(
                    one.text if one.accepted else f"refused: {one.text}",
                    "" if one.accepted else _STYLES["warning"],
                ),
                plain(one.samples),
                plain(one.sent),
                plain(one.purpose),
            )
        console.print(table)


@_render.register
def _done(result: Done, console: Console) -> None:
    console.print(plain(result.message))
