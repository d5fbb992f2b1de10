"""Slots, newest deployment and figures of each model."""

from rich.console import Console
from rich.text import Text

from agent.cli.printing import STYLES, number, plain, table, why
from agent.protocol.control import ModelReport, ModelsResult, SlotReport
from agent.protocol.progress import fetching
from agent.protocol.state import Measurement, ShadowFigures


def show_models(result: ModelsResult, console: Console) -> None:
    if not result.models:
        console.print(plain("no model is installed or assigned; see what the agent waits for: edgeward plan"))
        return
    rows = table("MODEL", "ACTIVE", "CANDIDATE", "PREVIOUS", "FLOOR", "NEWEST DEPLOYMENT", "WHY", "ADDRESS")
    for model in result.models:
        rows.add_row(*_model_row(model))
    console.print(rows)
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
        rows = table("VARIANT", "P50 MS", "P99 MS", "BUDGET", "PEAK MIB", "BUDGET", "VERDICT")
        for tried in deployment.tried:
            rows.add_row(plain(tried.variant), *_measured(tried.measurement), plain(why(tried.reason)))
        if deployment.measurement is not None:
            verdict = deployment.chosen or deployment.reason
            name = plain(deployment.measurement.variant)
            rows.add_row(name, *_measured(deployment.measurement), plain(verdict and why(verdict)))
        elif deployment.chosen is not None:
            rows.add_row(plain(None), *_measured(None), plain(why(deployment.chosen)))
        console.print(rows)
        if deployment.measurement is not None and deployment.measurement.shadow is not None:
            console.print(plain(_shadow(deployment.measurement.shadow)))
    if serving is not None and serving.service_level is not None:
        console.print(plain(f"service level: {serving.service_level.level}: {serving.service_level.text}"))
    if serving is not None and serving.degraded is not None:
        console.print(
            plain(f"degraded: {serving.variant} serves: {serving.degraded.text}", STYLES["warning"])
        )


def _shadow(seen: ShadowFigures) -> str:
    text = f"on live requests: {seen.text}"
    if seen.p50_ms is None:
        return text
    return f"{text} (answered at low priority: p50 {number(seen.p50_ms)} ms, p99 {number(seen.p99_ms)} ms)"


def _measured(measurement: Measurement | None) -> list[Text]:
    if measurement is None:
        return [plain(None)] * 5
    m = measurement
    figures = (m.p50_ms, m.p99_ms, m.budget_p99_ms, m.peak_memory_mib, m.budget_memory_mib)
    return [plain(number(figure)) for figure in figures]


def _slot(slot: SlotReport | None) -> str | None:
    if slot is None:
        return None
    standby = "" if slot.standby is None else f" (standby {slot.standby})"
    return f"{slot.release} {slot.variant}{standby}"
