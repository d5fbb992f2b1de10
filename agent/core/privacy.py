"""Small counts, kept from leaving the device (pure): cells are suppressed, or every count is noised.

What is kept on the device stays as it was counted; only what goes to the hub passes here. The mechanisms, what they promise and
what they do not, are explained in ``docs/privacy.md``.

Suppressed
    A cell of 1 to ``minimum - 1`` rows is told as 0, and so are the next smallest ones until at least two cells with together at
    least ``minimum`` rows are hidden (complementary suppression): the total tells their sum and nothing else. The sum stands in
    ``SignalCounts.withheld``, so that rows still add up and windows still merge by adding.
Noised
    Each cell gets noise of the two-sided geometric distribution, ``P(z) ~ exp(-|z| / scale)`` (Ghosh, Roughgarden, Sundararajan:
    "Universally Utility-Maximizing Privacy Mechanisms", SIAM J. Comput. 41 (2012)), drawn exactly, from integers alone, by
    algorithms 1 and 2 of Canonne, Kamath, Steinke: "The Discrete Gaussian for Differential Privacy" (2020). Replacing one row
    moves two of a signal's cells by one each, so ``scale = 2 * signals / epsilon`` makes all signals of one window together
    ``epsilon``-differentially private for one row (basic composition). What follows, making the cells whole, not negative
    and of the right sum, looks at nothing but the noised cells, and so costs no privacy.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from msgspec.structs import replace

from agent.protocol.drift import (
    AccuracyEstimate,
    CountPrivacy,
    DriftWindow,
    SignalCounts,
    Verdict,
    VerdictLevel,
    Withheld,
)
from agent.protocol.telemetry import Accuracy, Body, Event, Window

Below = Callable[[int], int]
"""A random whole number of 0 to one less than this, each as likely; from the system's randomness."""

_FINEST = 10**6
_SAYS: dict[VerdictLevel, str] = {
    "ok": "No drift",
    "warning": "Warning",
    "drift": "Drift",
    "insufficient data": "Insufficient data",
}
_TOLD = {
    "drift": "the alarm of drift has changed, its windows say how; what drifts stays on the device",
    "drift-changed": "what changed abruptly stays on the device",
    "estimate-contradicted": "labels contradict the accuracy estimate, and switch it off; how many stays on the device",
    "labels-suspicious": "labels agree with the model improbably often and may be its own output; how many stays on the device",
}
"""Kind of an event whose words count rows or labels → what is said in their place."""
_ESTIMATE_STAYS = "it stays on the device, whose counts are {mechanism}"
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""To which an estimate may be rounded."""


def stricter(device: CountPrivacy | None, release: CountPrivacy | None) -> CountPrivacy | None:
    """What holds where the device's owner asks for one and the release for another: of two mechanisms the owner's."""
    if device is None or release is None:
        return device or release
    if device.mechanism != release.mechanism:
        return device
    return replace(
        device, minimum=max(device.minimum, release.minimum), epsilon=min(device.epsilon, release.epsilon)
    )


def protect(body: Body, policy: CountPrivacy | None, below: Below) -> Body | None:
    """What may leave of a record; None: it stays."""
    if policy is None:
        return body
    match body:
        case Window(window=window):
            protected = protect_window(window, policy, below)
            return None if protected is None else Window(window=protected)
        case Accuracy():
            return _protect_accuracy(body, policy)
        case Event(kind=kind) if kind in _TOLD:
            return replace(body, text=f"{_TOLD[kind]}: its counts are {policy.mechanism}")
        case _:
            return body


def protect_window(window: DriftWindow, policy: CountPrivacy, below: Below) -> DriftWindow | None:
    """A window as it may leave; None: it stays."""
    if policy.mechanism == "suppressed":
        if window.slice is not None:
            return None  # the whole without the other slices would tell what is hidden in it
        signals = {name: suppress(counts, policy.minimum) for name, counts in window.signals.items()}
        estimate, off = _protect_estimate(window, policy.minimum)
        parameter = float(policy.minimum)
    else:
        scale = noise_scale(policy.epsilon, len(window.signals))
        signals = {name: noise(counts, scale, below) for name, counts in window.signals.items()}
        estimate, off = None, _ESTIMATE_STAYS.format(mechanism="noised")
        parameter = float(scale)
    return replace(
        window,
        signals=signals,
        verdict=_protect_verdict(window.verdict, policy),
        estimate=estimate,
        estimate_off=off,
        withheld=Withheld(mechanism=policy.mechanism, parameter=parameter),
    )


def without_figures(window: DriftWindow, policy: CountPrivacy | None) -> DriftWindow:
    """A window whose verdict may be told in reports, its counts as they are."""
    return window if policy is None else replace(window, verdict=_protect_verdict(window.verdict, policy))


# --- Suppression --------------------------------------------------------------------------------------------------


def suppress(counts: SignalCounts, minimum: int) -> SignalCounts:
    """Hide every cell of 1 to ``minimum - 1`` rows, and others beside it, so that the total does not tell it."""
    cells = [*counts.counts, counts.missing, counts.not_finite]
    order = sorted((cell, place) for place, cell in enumerate(cells) if cell)
    hidden = [place for cell, place in order if cell < minimum]
    if hidden:
        for _, place in order[len(hidden) :]:
            if len(hidden) >= 2 and sum(cells[each] for each in hidden) >= minimum:  # noqa: PLR2004 - one would be its own sum
                break
            hidden.append(place)
    withheld = sum(cells[place] for place in hidden)
    shown = [0 if place in hidden else cell for place, cell in enumerate(cells)]
    return SignalCounts(
        counts=tuple(shown[:-2]),
        missing=shown[-2],
        not_finite=shown[-1],
        repeated=counts.repeated if counts.repeated >= minimum else 0,
        withheld=counts.withheld + withheld,
    )


# --- Noise --------------------------------------------------------------------------------------------------------


def noise_scale(epsilon: float, signals: int) -> Fraction:
    """Scale of the noise with which all ``signals`` of a window together are ``epsilon``-differentially private."""
    return 2 * max(signals, 1) / Fraction(epsilon).limit_denominator(_FINEST)


def noise(counts: SignalCounts, scale: Fraction, below: Below) -> SignalCounts:
    """Every cell with noise, then the nearest cells that are whole, not negative, and add up as before; no ``repeated``."""
    cells = [*counts.counts, counts.missing, counts.not_finite]
    noised = [cell + two_sided_geometric(scale, below) for cell in cells]
    told = nearest_counts(noised, sum(cells))
    return SignalCounts(
        counts=tuple(told[:-2]), missing=told[-2], not_finite=told[-1], withheld=counts.withheld
    )


def two_sided_geometric(scale: Fraction, below: Below) -> int:
    """A whole number ``z`` with probability proportional to ``exp(-|z| / scale)``: exact, without a floating-point number."""
    t, s = scale.numerator, scale.denominator
    while True:
        u = below(t)
        if not _exponential_coin(u, t, below):
            continue
        v = 0
        while _exponential_coin(1, 1, below):
            v += 1
        magnitude = (u + t * v) // s
        negative = below(2) == 1
        if not (negative and magnitude == 0):  # else 0 would be twice as likely
            return -magnitude if negative else magnitude


def _exponential_coin(numerator: int, denominator: int, below: Below) -> bool:
    """True with probability ``exp(-numerator / denominator)``, for a ratio of 0 to 1."""
    k = 1
    while below(denominator * k) < numerator:
        k += 1
    return k % 2 == 1


def nearest_counts(noised: Sequence[int], total: int) -> list[int]:
    """The projection of ``noised`` on the counts of 0 or more that add up to ``total``: by Euclid's distance, then rounded."""
    if total == 0:
        return [0] * len(noised)
    ordered, running, shift = sorted(noised, reverse=True), 0, 0.0
    for place, value in enumerate(ordered, 1):
        running += value
        candidate = (running - total) / place
        if value - candidate > 0:
            shift = candidate
    exact = [max(value - shift, 0.0) for value in noised]
    told = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: (told[place] - exact[place], place))
    for place in by_remainder[: total - sum(told)]:
        told[place] += 1
    return told


# --- What is said of the counts --------------------------------------------------------------------------------------


def _protect_verdict(verdict: Verdict, policy: CountPrivacy) -> Verdict:
    """Its level, and which signals moved most; no number from which a count could be had."""
    names = ", ".join(moved.signal for moved in verdict.moved_most)
    moved = f": {names} moved most" if names else ""
    reason = (
        f"{_SAYS[verdict.level]}{moved}; its figures stay on the device, whose counts are {policy.mechanism}."
    )
    return replace(verdict, moved_most=(), reason=reason)


def _protect_estimate(window: DriftWindow, minimum: int) -> tuple[AccuracyEstimate | None, str | None]:
    """An estimate so coarse that one step is ``minimum`` rows, or why there is none, without a figure."""
    estimate, off = window.estimate, window.estimate_off
    stays = _ESTIMATE_STAYS.format(mechanism="suppressed")
    if estimate is None:
        return None, stays if off is not None and any(letter.isdigit() for letter in off) else off
    step = next((step for step in _STEPS if step * window.rows >= minimum), None)
    if step is None:
        return None, stays
    coarse = replace(
        estimate,
        accuracy=_steps(round(estimate.accuracy / step), step),
        low=_steps(math.floor(estimate.low / step), step),
        high=_steps(math.ceil(estimate.high / step), step),
        rows=window.rows,
    )
    return coarse, None


def _steps(number: int, step: float) -> float:
    return min(1.0, max(0.0, round(number * step, 2)))


def _protect_accuracy(accuracy: Accuracy, policy: CountPrivacy) -> Accuracy | None:
    """Each record stands for all of its day so far: two of them, subtracted, must not tell one label either."""
    if policy.mechanism == "noised" or accuracy.slice is not None:
        return None
    step = policy.minimum
    rows = accuracy.rows // step * step
    if rows == 0:
        return None
    expected = min(accuracy.expected_rows // step * step, rows)
    share = accuracy.expected_correct / accuracy.expected_rows if accuracy.expected_rows else 0.0
    return replace(
        accuracy,
        rows=rows,
        correct=min(accuracy.correct // step * step, rows),
        expected_rows=expected,
        expected_correct=float(round(share * expected)),
    )
