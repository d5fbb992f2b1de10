"""Answers for people, by rich. Whatever came from outside is printed as plain text, control characters replaced."""

from functools import singledispatch

from rich.console import Console
from rich.text import Text

from agent.cli.bars import style_of
from agent.cli.budget_words import budget_line
from agent.cli.drift_view import show_drift
from agent.cli.health import Finding, findings
from agent.cli.label_words import FIGURE_COLUMNS, answer_lines, figure_notes, figure_row
from agent.cli.model_view import show_models
from agent.cli.printing import STYLES, number, output, plain, table, time_of, why
from agent.protocol.control import (
    AccuracyResult,
    ControlResult,
    DataResult,
    Done,
    DriftResult,
    EventsResult,
    LabelResult,
    ModelsResult,
    PlanResult,
    SamplesResult,
    StatusResult,
)
from agent.protocol.progress import size
from agent.protocol.state import ServingReport


def render(result: ControlResult, *, signal: str | None = None, ascii_only: bool = False) -> None:
    """Print one answer to standard output. ``signal``: of drift, this one in detail; ``ascii_only``: no block characters."""
    console = output()
    if isinstance(result, DriftResult):
        show_drift(result, console, signal=signal, style=style_of(ascii_only=ascii_only))
    else:
        _render(result, console)


@singledispatch
def _render(result: ControlResult, console: Console) -> None:
    raise NotImplementedError(type(result).__name__)


@_render.register
def _status(result: StatusResult, console: Console) -> None:
    state, found = result.state, findings(result)
    problems = [finding for finding in found if finding.severity == "problem"]
    if problems:
        many = "1 thing is wrong" if len(problems) == 1 else f"{len(problems)} things are wrong"
        console.print(plain(f"{state.device}: {many}", STYLES["problem"]))
    else:
        console.print(plain(f"{state.device}: all is well", STYLES["ok"]))
    for finding in found:
        _finding(finding, console)
    console.print()
    if state.serving:
        rows = table(
            *("MODEL", "RELEASE", "VARIANT", "READY", "REQUESTS", "FAILED"),
            *("P50 MS", "P95 MS", "P99 MS", "LEVEL", "MIB", "DRIFT"),
        )
        for serving in state.serving:
            rows.add_row(*_serving_row(serving))
        console.print(rows)
    outbox = state.outbox
    console.print(
        plain(
            f"hub {'connected' if result.connected else 'not connected'}"
            f" · telemetry {outbox.acknowledged} of {outbox.recorded} acknowledged, {outbox.pending} waiting"
            f" · agent {state.agent_version} on {state.hardware_class} · {time_of(state.time)}"
        )
    )
    if outbox.budget is not None:
        console.print(plain(budget_line(outbox.budget)))


def _finding(finding: Finding, console: Console) -> None:
    console.print(Text.assemble("  ", plain(finding.text, STYLES[finding.severity])))
    console.print(Text.assemble("    → ", plain(finding.todo)))


def _serving_row(serving: ServingReport) -> list[Text]:
    drift = serving.drift or "not judged yet"
    if serving.drift_rows is not None:
        drift = f"{drift} ({serving.drift_rows} rows)"
    level = None if serving.service_level is None else serving.service_level.level
    return [
        plain(serving.model),
        plain(serving.release),
        plain(f"{serving.variant} (degraded)", STYLES["warning"])
        if serving.degraded
        else plain(serving.variant),
        plain("yes", STYLES["ok"]) if serving.ready else plain("no", STYLES["problem"]),
        plain(serving.requests),
        plain(serving.failures, STYLES["error"] if serving.failures else ""),
        plain(number(serving.p50_ms)),
        plain(number(serving.p95_ms)),
        plain(number(serving.p99_ms)),
        plain(level, STYLES.get(level or "", "")),
        plain(number(serving.memory_mib)),
        plain(drift, STYLES.get(serving.drift or "", "")),
    ]


@_render.register
def _models(result: ModelsResult, console: Console) -> None:
    show_models(result, console)


@_render.register
def _events(result: EventsResult, console: Console) -> None:
    if not result.events:
        console.print(plain("nothing is recorded yet"))
        return
    rows = table("TIME", "SEVERITY", "KIND", "MODEL", "RELEASE", "TEXT")
    for event in result.events:
        severity = plain(event.severity, STYLES.get(event.severity, ""))
        what = (plain(event.kind), plain(event.model), plain(event.release), plain(event.text))
        rows.add_row(plain(time_of(event.time)), severity, *what)
    console.print(rows)


@_render.register
def _plan(result: PlanResult, console: Console) -> None:
    if result.refusal is not None:
        console.print(
            plain(f"the newest desired state was not taken: {why(result.refusal)}", STYLES["problem"])
        )
    if not result.steps:
        console.print(plain("nothing to do: no desired state names a model yet"))
        return
    rows = table("MODEL", "NEXT", "RELEASE", "DEPLOYMENT", "WHY")
    for step in result.steps:
        rows.add_row(
            plain(step.model),
            plain(step.action, "" if step.action == "nothing" else "bold"),
            plain(step.release),
            plain(step.deployment),
            plain(why(step.reason)),
        )
    console.print(rows)


@_render.register
def _data(result: DataResult, console: Console) -> None:
    """Network by month and purpose, flash by deployment."""
    ledger = result.ledger
    if ledger.traffic:
        shown = table("MONTH", "FOR", "RECEIVED", "SENT")
        for month in dict.fromkeys(each.month for each in ledger.traffic):
            rows = [each for each in ledger.traffic if each.month == month]
            for row in sorted(rows, key=lambda each: -(each.bytes_in + each.bytes_out)):
                shown.add_row(
                    plain(month), plain(row.purpose), plain(size(row.bytes_in)), plain(size(row.bytes_out))
                )
            both = [sum(each.bytes_in for each in rows), sum(each.bytes_out for each in rows)]
            shown.add_row(plain(month), plain("all", "bold"), *(plain(size(each), "bold") for each in both))
        console.print(shown)
        console.print(plain("without TLS, TCP and MQTT's keepalives: docs/transfer.md"))
    else:
        console.print(plain("nothing was sent or received yet"))
    if ledger.budget is not None:
        console.print(plain(budget_line(ledger.budget)))
    if ledger.flash:
        console.print()
        shown = table("UPDATE", "MODEL", "RELEASE", "BEGAN", "ENDED", "WRITTEN TO FLASH")
        for run in ledger.flash:
            ended = "under way, or cut off" if run.ended is None else time_of(run.ended)
            shown.add_row(
                plain(run.deployment),
                plain(run.model),
                plain(run.release),
                plain(time_of(run.began)),
                plain(ended),
                plain(size(run.written_bytes)),
            )
        console.print(shown)


@_render.register
def _label(result: LabelResult, console: Console) -> None:
    for line in answer_lines(result):
        console.print(plain(line))


@_render.register
def _accuracy(result: AccuracyResult, console: Console) -> None:
    if result.figures:
        rows = table(*FIGURE_COLUMNS)
        for figure in result.figures:
            style = STYLES["warning"] if figure.suspicious or figure.contradicts else ""
            rows.add_row(*(plain(cell, style) for cell in figure_row(figure)))
        console.print(rows)
    else:
        console.print(plain("no labels yet: tell what was right by `edgeward label` (docs/labels.md)"))
    for note in figure_notes(result):
        console.print(plain(note))


@_render.register
def _samples(result: SamplesResult, console: Console) -> None:
    state = "inputs are kept" if result.enabled else "no inputs are kept: samples.enabled is not set"
    leaving = "may leave" if result.may_leave else "may not leave"
    room = f"{result.count} samples, {size(result.size_bytes)} of {size(result.maximum_bytes)}"
    console.print(plain(f"{state}; {room}; they {leaving} the device when an approver asks"))
    if result.samples:
        console.print()
        rows = table("TAKEN", "MODEL", "RELEASE", "WHY", "CONFIDENCE", "SIZE", "LEFT", "SAMPLE")
        for each in result.samples:
            rows.add_row(
                plain(time_of(each.time)),
                plain(each.model),
                plain(each.release),
                plain(", ".join(each.why)),
                plain(number(each.confidence)),
                plain(size(each.size_bytes)),
                plain(None if each.left is None else time_of(each.left)),
                plain(each.id),
            )
        console.print(rows)
    if result.departures:
        console.print()
        rows = table("ASKED", "REQUEST", "MODEL", "APPROVER'S KEY", "ANSWER", "LEFT", "ARRIVED", "FOR")
        for one in result.departures:
            rows.add_row(
                plain(time_of(one.time)),
                plain(one.request),
                plain(one.model),
                plain(None if one.approver is None else one.approver[:8]),
                plain(
                    one.text if one.accepted else f"refused: {one.text}",
                    "" if one.accepted else STYLES["warning"],
                ),
                plain(one.samples),
                plain(one.sent),
                plain(one.purpose),
            )
        console.print(rows)


@_render.register
def _done(result: Done, console: Console) -> None:
    console.print(plain(result.message))
