"""Judgements: measured figures against the signed manifest. Pure; a figure that is not a number never passes."""

from collections.abc import Collection

from msgspec import Struct

from agent.protocol.manifest import Budget, GoldenRef, Manifest, Variant
from agent.protocol.runner import ProbeReport
from agent.protocol.state import Reason, ShadowFigures, ShadowPolicy, VariantPolicy


def judge_probe(
    report: ProbeReport, peak_memory_mib: float, budget: Budget, golden: GoldenRef
) -> Reason | None:
    """Why the candidate must not serve, or None where it keeps its golden outputs, latency and memory.

    ``peak_memory_mib``: peak PSS of the runner over the probe, MiB. Codes: ``golden-mismatch``,
    ``latency-over-budget``, ``memory-over-budget``; correctness is judged first.
    """
    against = judge_golden(report, golden)
    if against is not None:
        return against
    if not report.p99_ms <= budget.p99_ms:
        return Reason(
            code="latency-over-budget",
            text=f"p99 latency is {report.p99_ms:.3g} ms over {report.repetitions} inferences, "
            f"the budget is {budget.p99_ms:.3g} ms",
        )
    if not peak_memory_mib <= budget.peak_memory_mib:
        return Reason(
            code="memory-over-budget",
            text=f"peak memory is {peak_memory_mib:.1f} MiB, the budget is {budget.peak_memory_mib:.1f} MiB",
        )
    return None


def judge_golden(report: ProbeReport, golden: GoldenRef) -> Reason | None:
    """Whether its outputs are the golden ones. Code: ``golden-mismatch``."""
    if not report.golden_max_error <= golden.absolute_tolerance:
        return Reason(
            code="golden-mismatch",
            text=f"outputs differ from the golden vectors by up to {report.golden_max_error:.4g}, "
            f"at most {golden.absolute_tolerance:.4g} is allowed ({report.golden_rows} rows)",
        )
    if not report.golden_class_agreement >= golden.minimum_class_agreement:
        return Reason(
            code="golden-mismatch",
            text=f"the class agrees with the golden vectors in {report.golden_class_agreement:.1%} of "
            f"{report.golden_rows} rows, at least {golden.minimum_class_agreement:.1%} is asked for",
        )
    return None


def judge_shadow(figures: ShadowFigures, policy: ShadowPolicy) -> Reason | None:
    """Why a candidate that was fed copies of live requests must not serve, or None.

    It is judged by what was seen, however little: to refuse it leaves what serves as it is. Where nothing was compared there
    is nothing to hold against it, and a device without traffic must not wait for ever. Code: ``shadow-disagreement``.
    """
    maximum = policy.maximum_disagreement
    if maximum is None or figures.disagreed <= maximum * figures.rows:
        return None
    return Reason(
        code="shadow-disagreement",
        text=f"{_disagreement(figures)}, at most {maximum:.1%} is allowed",
    )


def shadow_text(figures: ShadowFigures, policy: ShadowPolicy) -> str:
    """How far comparing has come: ``37 of 200 requests, 1.2 % disagree``."""
    seen = f"{figures.requests} of {policy.requests} requests"
    if not figures.rows:
        return seen
    return f"{seen}, {100 * figures.disagreed / figures.rows:.2g} % disagree"


def _disagreement(figures: ShadowFigures) -> str:
    failed = f", {figures.failed} of {figures.requests} requests failed" if figures.failed else ""
    share = figures.disagreed / figures.rows
    return f"on live requests {figures.disagreed} of {figures.rows} rows ({share:.1%}) were answered otherwise than by what serves{failed}"


class Choice(Struct, frozen=True, kw_only=True):
    """The variant to try next, why it, and what it can fall back to."""

    variant: Variant
    reason: Reason
    standby: Variant | None
    """The smallest variant that runs here and was not refused, where that is a smaller one."""


def choose_variant(
    manifest: Manifest,
    *,
    runtimes: Collection[str],
    hardware_class: str,
    policy: VariantPolicy,
    tried: Collection[str],
) -> Choice | Reason:
    """The variant to try next on this device, or why there is none.

    Trying in this order finds, of the variants that meet the budget here, the most accurate (or the smallest): accuracy
    and size stand in the signed manifest, and what the probe measures over the budget is passed over.

    ``runtimes``: those that can load a model here (``onnx``, ``tflite``); ``tried``: variants that the probe refused.
    Most accurate: ties go to the smaller file; smallest: ties go to the more accurate one; then the name decides, so
    that a device always chooses the same. Codes of a refusal: ``no-budget``, ``no-variant``, ``variants-exhausted``; of
    a choice: ``most-accurate``, ``smallest``.
    """
    if hardware_class not in manifest.budgets:
        known = ", ".join(sorted(manifest.budgets))
        text = f"the manifest has no budget for hardware class {hardware_class}; it has: {known}"
        return Reason(code="no-budget", text=text)
    loadable = [variant for variant in manifest.variants if variant.runtime in runtimes]
    if not loadable:
        needs = ", ".join(sorted({variant.runtime for variant in manifest.variants}))
        has = ", ".join(sorted(runtimes)) or "none"
        return Reason(
            code="no-variant", text=f"the release needs a runtime of: {needs}; this device has: {has}"
        )
    left = [variant for variant in loadable if variant.name not in tried]
    if not left:
        names = ", ".join(sorted(variant.name for variant in loadable))
        return Reason(code="variants-exhausted", text=f"every variant that runs here was refused: {names}")
    smallest = min(left, key=lambda variant: (variant.artifact.size, -variant.accuracy, variant.name))
    if policy is VariantPolicy.SMALLEST:
        chosen = smallest
    else:
        chosen = min(left, key=lambda variant: (-variant.accuracy, variant.artifact.size, variant.name))
    smaller = smallest.artifact.size < chosen.artifact.size
    return Choice(
        variant=chosen,
        reason=_why(chosen, policy, len(loadable), [each.name for each in loadable if each not in left]),
        standby=smallest if smaller else None,
    )


def _why(chosen: Variant, policy: VariantPolicy, runnable: int, refused: list[str]) -> Reason:
    figures = f"accuracy {chosen.accuracy:.4g}, {chosen.artifact.size:,} bytes"
    among = "the only variant that runs here" if runnable == 1 else f"of {runnable} variants that run here"
    best = "" if runnable == 1 else f"the {policy.value.replace('-', ' ')} "
    without = f", without those refused before it: {', '.join(sorted(refused))}" if refused else ""
    return Reason(code=policy.value, text=f"{chosen.name} ({figures}) is {best}{among}{without}")
