"""Bodies for tests of the store."""

from agent.protocol.drift import (
    AccuracyEstimate,
    Alarm,
    DriftWindow,
    MovedSignal,
    SignalCounts,
    SignalVerdict,
    Verdict,
    VerdictLevel,
)
from agent.protocol.runner import WindowClosed
from agent.protocol.telemetry import Event, Health, Severity


def event(text: str = "hello", model: str | None = None, severity: Severity = "info") -> Event:
    return Event(time=5.0, severity=severity, kind="test", text=text, model=model)


HEALTH = Health(
    time=1.0,
    cpu_percent=1.0,
    memory_available_mib=1.0,
    disk_free_mib=1.0,
    temperature_c=None,
    thermal=None,
    load=0.5,
    supervisor_pss_mib=1.0,
)


SIGNAL = SignalVerdict(
    level="drift",
    rows=500,
    psi=0.5,
    js=0.25,
    ks=0.3,
    wasserstein=0.75,
    p_value=0.001,
    missing_rate=0.0,
    not_finite_rate=0.0,
    outside_rate=0.1,
)


def window(
    model: str = "digits",
    *,
    closed: float = 2.0,
    psi: float = 0.5,
    level: VerdictLevel = "drift",
    slice: str | None = None,  # noqa: A002 - the wire's word
) -> DriftWindow:
    moved = MovedSignal(signal="brightness", level=level, rows=500, statistic="psi", value=psi, p_value=0.001)
    verdict = Verdict(
        level=level,
        rows=500,
        correction="benjamini-hochberg",
        alpha=0.01,
        judged=1,
        moved_most=(moved,),
        reason="brightness moved",
    )
    return DriftWindow(
        model=model,
        release=2,
        deployment="d1",
        artifact="ab" * 32,
        opened=closed - 1.0,
        closed=closed,
        rows=500,
        signals={"brightness": SignalCounts(counts=(0, 500, 0), missing=0)},
        verdict=verdict,
        slice=slice,
        alarm=Alarm(level=level, since=1.0, windows=2, changed=("brightness",)),
        estimate=AccuracyEstimate(accuracy=0.9, low=0.8, high=0.95, level=0.95, rows=500),
    )


def closed(one: DriftWindow, drift_state: bytes = b"") -> WindowClosed:
    """As a runner hands it over."""
    verdict = SignalVerdict(
        level="drift",
        rows=500,
        psi=one.verdict.moved_most[0].value,
        js=0.2,
        ks=0.3,
        wasserstein=1.5,
        p_value=0.001,
        missing_rate=0.0,
        not_finite_rate=0.25,
        outside_rate=0.1,
        constant=True,
    )
    return WindowClosed(window=one, signals={"brightness": verdict}, drift_state=drift_state)
