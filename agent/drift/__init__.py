"""Window statistics and verdicts: the same code on the device, on the hub and in the recipes.

A recipe builds a reference from data (:func:`build_reference`); a runner counts its requests against it
(:class:`WindowBuilder`); the hub merges the windows of a fleet (:func:`merge_windows`) and judges the sum
(:func:`judge`) and estimates its accuracy (:func:`estimate_accuracy`). Everything is counts in fixed bins, so merging is exact.
"""

from agent.drift.errors import BadReferenceError, DriftError, LayoutError, SignalError
from agent.drift.estimate import Estimate, Estimator, estimate_accuracy
from agent.drift.merge import MergedWindow, merge_windows
from agent.drift.reference import (
    SignalSpec,
    build_reference,
    decode_reference,
    encode_reference,
    signal_values,
)
from agent.drift.signals import check_tensors
from agent.drift.verdict import Judge, Judgement, check_counts, judge
from agent.drift.window import ClosedWindow, Identity, WindowBuilder

__all__ = [
    "BadReferenceError",
    "ClosedWindow",
    "DriftError",
    "Estimate",
    "Estimator",
    "Identity",
    "Judge",
    "Judgement",
    "LayoutError",
    "MergedWindow",
    "SignalError",
    "SignalSpec",
    "WindowBuilder",
    "build_reference",
    "check_counts",
    "check_tensors",
    "decode_reference",
    "encode_reference",
    "estimate_accuracy",
    "judge",
    "merge_windows",
    "signal_values",
]
