"""The reference a release is signed with: made from data, decoded from its file, checked both times."""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from agent.drift.binning import Binner, Floats
from agent.drift.errors import BadReferenceError
from agent.drift.signals import Extractor, Tensors, keyed
from agent.drift.soundness import contradiction, require_judgeable, require_sound
from agent.protocol.codec import decode_json
from agent.protocol.drift import (
    Components,
    DriftPolicy,
    DriftReference,
    Layout,
    SignalCounts,
    SignalReference,
    SignalSource,
    Summary,
)
from agent.protocol.limits import MAX_MANIFEST_BYTES, MAX_RECORD_BYTES

SCHEMA = 1


class SignalSpec(Struct, frozen=True, kw_only=True):
    """What to monitor; its bins are found in the reference data."""

    name: str
    source: SignalSource
    tensor: str
    summary: Summary
    index: int | None = None
    """Element of the flattened row (``value``, ``category``), or number of the component (``projection``)."""
    layout: Layout | None = None
    """For pictures."""
    full_scale: float | None = None
    """For ``clipping``."""
    missing_value: float | None = None
    """For ``value`` and ``category``: counts as missing."""
    categories: tuple[int, ...] | None = None
    """For ``category``: the known codes, ascending."""
    bins: int = 10
    """At most; ignored for ``argmax`` and ``category``, which have one bin a class."""
    spacing: Literal["uniform", "quantile"] = "uniform"
    """Equally wide bins cost an eighth on the device; quantile bins see more where values crowd together."""


def build_reference(
    specs: Sequence[SignalSpec],
    *,
    inputs: Tensors,
    outputs: Tensors,
    dataset_sha256: str,
    policy: DriftPolicy | None = None,
    embeddings: tuple[Components, ...] = (),
) -> DriftReference:
    """Count the reference data.

    Args:
        specs: the signals, names unique.
        inputs: reference inputs by tensor name, shape (rows, …), as the device will see them.
        outputs: the model's answers to them, shape (rows, …).
        dataset_sha256: digest of the data, for the lineage.
        policy: when and how windows are judged; the protocol's defaults if None.
        embeddings: the components that ``projection`` signals are projected on.

    Raises:
        SignalError: a tensor lacks a signal that is asked for.
        MalformedMessageError: a name, the digest or the policy breaks its rule; the text names the field.
        BadReferenceError: too few rows, too many bins for the policy's window, more signals than a telemetry record
            holds, or a spec that contradicts itself.
    """
    tensors = keyed(inputs, outputs)
    # Edges are not known before the values are, and values need a signal: a draft of one bin carries it there.
    drafts = [_with_edges(spec, (0.0, 1.0)) for spec in specs]
    values = Extractor(drafts, embeddings).values(tensors)
    edges = [_edges(spec, values[:, column], tensors) for column, spec in enumerate(specs)]
    signals = [_with_edges(spec, found) for spec, found in zip(specs, edges, strict=True)]
    reference = DriftReference(
        schema=SCHEMA,
        dataset_sha256=dataset_sha256,
        rows=len(values),
        signals=_counted(signals, values),
        policy=policy or DriftPolicy(),
        embeddings=embeddings,
    )
    require_judgeable(reference)
    _require_reportable(reference)
    # Through the decoder, so that names, digests and policy are checked by the same rules as on the device.
    return decode_reference(encode_reference(reference))


def decode_reference(payload: bytes) -> DriftReference:
    """Decode and check a reference file (JSON).

    Raises:
        MessageTooLargeError: over ``limits.MAX_MANIFEST_BYTES``.
        MalformedMessageError: not JSON, or a field breaks its rule.
        BadReferenceError: it contradicts itself; the text names the signal.
    """
    reference = decode_json(payload, DriftReference, limit=MAX_MANIFEST_BYTES)
    require_sound(reference)
    return reference


def encode_reference(reference: DriftReference) -> bytes:
    """The reference file: deterministic JSON.

    Raises:
        BadReferenceError: the file would be over ``limits.MAX_MANIFEST_BYTES``.
    """
    payload = msgspec.json.encode(reference, order="deterministic")
    if len(payload) > MAX_MANIFEST_BYTES:
        raise BadReferenceError(f"reference: {len(payload)} bytes, at most {MAX_MANIFEST_BYTES} are allowed")
    return payload


def signal_values(reference: DriftReference, inputs: Tensors, outputs: Tensors) -> Floats:
    """Every signal of every row: float64 of shape (rows, signals), not finite where a row does not have the signal.

    Raises:
        SignalError: see :meth:`agent.drift.signals.Extractor.values`.
    """
    return Extractor(reference.signals, reference.embeddings).values(keyed(inputs, outputs))


def _counted(signals: Sequence[SignalReference], values: Floats) -> tuple[SignalReference, ...]:
    binner = Binner(signals)
    found = binner.split(binner.count(values))
    return tuple(
        msgspec.structs.replace(
            signal,
            counts=found[signal.name].counts,
            missing=found[signal.name].missing,
            not_finite=found[signal.name].not_finite,
        )
        for signal in signals
    )


def _with_edges(spec: SignalSpec, edges: tuple[float, ...]) -> SignalReference:
    signal = SignalReference(
        name=spec.name,
        source=spec.source,
        tensor=spec.tensor,
        summary=spec.summary,
        index=spec.index,
        layout=spec.layout,
        full_scale=spec.full_scale,
        missing_value=spec.missing_value,
        categories=spec.categories,
        edges=edges,
        counts=(0,) * (len(edges) + 1),
        missing=0,
    )
    problem = contradiction(signal)
    if problem:
        raise BadReferenceError(f"signal {spec.name}: {problem}")
    return signal


def _edges(
    spec: SignalSpec,
    values: NDArray[np.float64],
    tensors: dict[tuple[SignalSource, str], NDArray[np.generic]],
) -> tuple[float, ...]:
    if spec.summary == "argmax":
        tensor = tensors[spec.source, spec.tensor]
        classes = math.prod(tensor.shape[1:])
        return tuple(edge - 0.5 for edge in range(classes + 1))
    if spec.summary == "category":
        return tuple(edge - 0.5 for edge in range(len(spec.categories or ()) + 1))
    if spec.bins < 1:
        raise BadReferenceError(f"signal {spec.name}: {spec.bins} bins, at least 1 is needed")
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise BadReferenceError(f"signal {spec.name}: no row of the reference data has a finite value")
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        # A constant still has a range to leave: half a unit, or half its own size where that is more.
        margin = 0.5 * max(1.0, abs(low))
        return (low - margin, low + margin)
    if spec.spacing == "quantile":
        return tuple(np.unique(np.quantile(finite, np.linspace(0, 1, spec.bins + 1))).tolist())
    return tuple(np.linspace(low, high, spec.bins + 1).tolist())


ENVELOPE_BYTES = 3072
"""Room for what a telemetry record holds beside the signals: identity, slice, times, sentences, what moved most."""


def _require_reportable(reference: DriftReference) -> None:
    """A window over the record limit would be quarantined on every device, so its reference is not made."""
    size = largest_record_bytes(reference)
    if size > MAX_RECORD_BYTES:
        raise BadReferenceError(
            f"reference: windows of {len(reference.signals)} signals would take up to {size} bytes, a telemetry record "
            f"holds {MAX_RECORD_BYTES}; fewer signals or fewer bins are needed"
        )


def largest_record_bytes(reference: DriftReference) -> int:
    """Bytes that a window takes at most, whole or of a slice, as JSON on the device and as msgpack on the wire."""
    rows = reference.policy.window_rows
    return ENVELOPE_BYTES + sum(_report_bytes(signal, rows) for signal in reference.signals)


def _report_bytes(signal: SignalReference, rows: int) -> int:
    """Of one signal: as if each count were all rows, which leaves room for a last batch that goes beyond them.

    Its name stands there twice: an abrupt change of it is told by the alarm.
    """
    counts = SignalCounts(
        counts=(rows,) * len(signal.counts), missing=rows, not_finite=rows, repeated=rows, withheld=rows
    )
    return max(
        len(encoder.encode(({signal.name: counts}, signal.name)))
        for encoder in (msgspec.json.Encoder(), msgspec.msgpack.Encoder())
    )
