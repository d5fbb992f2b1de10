"""The books of one release: which observers its drift reference and the device's owner ask for."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from agent.drift import ClosedWindow, DriftError, Identity, WindowBuilder, check_tensors, decode_reference
from agent.drift.binning import Floats
from agent.protocol.drift import CountPrivacy, DriftReference
from agent.protocol.errors import ProtocolError
from agent.protocol.runner import FromRunner, SampleTaken, Start, WindowClosed, WindowOpen
from agent.runner.backends import Array
from agent.runner.bookkeeping import Bookkeeping, Observer
from agent.runner.drift_log import DriftLog, SlicedDriftLog
from agent.runner.errors import LoadError
from agent.runner.every_nth import EveryNth
from agent.runner.prediction_log import Expectation, PredictionLog, classes_tensor
from agent.runner.sample_capture import SampleCapture, Served
from agent.runner.slice_names import SliceNames
from agent.runner.slice_windows import SliceWindows

Tell = Callable[[FromRunner], None]

_log = logging.getLogger(__name__)


class Books(NamedTuple):
    """What is kept, and what it needs to know of a request."""

    keeping: Bookkeeping
    parameter: str | None
    """Of a request, by whose value slices are made."""


def open_books(start: Start, tell: Tell) -> Books:
    """Everything that is written down about what ``start`` serves; ``tell``: the supervisor.

    Raises:
        LoadError: the drift reference can't be used.
    """
    reference = _reference(start)
    policy = None if reference is None else reference.policy.slices
    names = None if policy is None else SliceNames(policy, start.drift_states)
    observers: dict[str, Observer] = {}
    if reference is not None:
        drift, every = _drift(start, reference, names, tell), reference.policy.every
        observers["drift"] = drift if every == 1 else EveryNth(drift, every, _measure(reference))
    predictions = _predictions(start, reference, names, tell)
    if predictions is not None:
        observers["predictions"] = predictions
    if start.samples is not None and reference is not None:
        served = Served(start.model, start.release, start.deployment, start.artifact_sha256)
        observers["samples"] = SampleCapture(
            served, reference, start.samples, lambda sample: tell(SampleTaken(sample=sample))
        )
    return Books(Bookkeeping(time.time, observers), None if policy is None else policy.parameter)


def _reference(start: Start) -> DriftReference | None:
    if start.reference_path is None:
        return None
    try:
        reference = decode_reference(Path(start.reference_path).read_bytes())
        check_tensors(reference.signals, start.inputs, start.outputs, reference.embeddings)
    except (OSError, ProtocolError, DriftError) as error:
        raise LoadError("drift-reference", f"drift reference {start.reference_path}: {error}") from error
    return reference


def _drift(start: Start, reference: DriftReference, names: SliceNames | None, tell: Tell) -> Observer:
    def closed(closed: ClosedWindow) -> None:
        tell(message(closed, reference.policy.privacy))

    def still_open(so_far: ClosedWindow) -> None:
        tell(WindowOpen(so_far=message(so_far, reference.policy.privacy)))

    if names is None:
        return DriftLog(_builder(start, reference), closed, still_open)
    slices = SliceWindows(lambda name: _builder(start, reference, name))
    return SlicedDriftLog(
        _builder(start, reference, also=slices.take),
        closed,
        still_open,
        names=names,
        slices=slices,
        measure=_measure(reference),
    )


def _builder(
    start: Start,
    reference: DriftReference,
    name: str | None = None,
    also: Callable[[Floats], None] | None = None,
) -> WindowBuilder:
    """Of a slice or, without a name, of the whole; it goes on from what was kept of the windows before."""
    state = start.drift_states.get(name or "", b"")
    builder = WindowBuilder(_identity(start, name), reference, state=state, also=also)
    if builder.forgot is not None:
        _log.warning("%s; alarm and detectors of %s start anew", builder.forgot, name or "the whole")
    return builder


def message(closed: ClosedWindow, privacy: CountPrivacy | None) -> WindowClosed:
    """What the supervisor is told of a window; ``privacy``: what the release asks for."""
    return WindowClosed(
        window=closed.window, signals=closed.signals, drift_state=closed.state, privacy=privacy
    )


def _identity(start: Start, name: str | None = None) -> Identity:
    return Identity(
        model=start.model,
        release=start.release,
        deployment=start.deployment,
        artifact=start.artifact_sha256,
        slice=name,
    )


def _measure(reference: DriftReference) -> Callable[[Mapping[str, Array], Mapping[str, Array]], int]:
    signal = reference.signals[0]

    def rows(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> int:
        return len((inputs if signal.source == "input" else outputs)[signal.tensor])

    return rows


def _predictions(
    start: Start, reference: DriftReference | None, names: SliceNames | None, tell: Tell
) -> Observer | None:
    tensor = classes_tensor(reference, start.outputs, start.labels)
    if tensor is None or not start.predictions_per_minute:
        return None
    privacy = None if reference is None else reference.policy.privacy
    return PredictionLog(
        tensor,
        start.labels,
        per_minute=start.predictions_per_minute,
        expectation=Expectation(reference),
        slice_of=(lambda _: None) if names is None else names.name,
        told=lambda said: tell(replace(said, privacy=privacy)),
    )
