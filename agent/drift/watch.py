"""What follows from one window to the next: the alarm, and the detector of abrupt changes; with their memory."""

import hashlib

import msgspec
import numpy as np
from msgspec import Struct

from agent.drift import alarm, sequential
from agent.drift.verdict import Judgement
from agent.protocol.drift import Alarm, DriftReference

_FLOATS = np.dtype("<f8")


class _Kept(Struct, frozen=True, kw_only=True):
    """The memory as bytes."""

    reference: bytes
    """Fingerprint: memory of another reference means nothing."""
    alarm: alarm.AlarmState
    detectors: bytes
    """float64, little-endian, shape (:data:`agent.drift.sequential.FIELDS`, signals)."""


class Watch:
    """Follows the windows of one model, release and slice. It belongs to the builder of its windows."""

    def __init__(self, reference: DriftReference, state: bytes = b"") -> None:
        """``state``: as :meth:`state` gave it, perhaps before a restart; empty at the first start."""
        self._policy = reference.policy
        self._names = [signal.name for signal in reference.signals]
        self._distances = sequential.Distances(reference)
        self._fingerprint = _fingerprint(reference)
        self._alarm = alarm.AlarmState()
        self._detectors = sequential.initial(len(self._names))
        self.problem: str | None = None
        """Why ``state`` was of no use, so that it starts anew; None where it was."""
        if state:
            self._restore(state)

    def see(self, judgement: Judgement, slots: sequential.Ints, now: float) -> Alarm:
        """One more window, which ended at ``now`` (Unix seconds); ``slots``: its counts, of the reference's binner."""
        values = self._distances.of_slots(slots)
        silent = [judgement.signals[name].level == "insufficient data" for name in self._names]
        values[silent] = np.nan
        self._detectors, changed = sequential.step(self._detectors, values, self._policy.sequential)
        self._alarm = alarm.step(self._alarm, judgement.verdict.level, now, self._policy)
        names = tuple(
            name for name, is_changed in zip(self._names, changed.tolist(), strict=True) if is_changed
        )
        return alarm.told(self._alarm, names)

    def state(self) -> bytes:
        """The memory, to be given back after a restart."""
        detectors = self._detectors.astype(_FLOATS).tobytes()
        return msgspec.msgpack.encode(
            _Kept(reference=self._fingerprint, alarm=self._alarm, detectors=detectors)
        )

    def _restore(self, state: bytes) -> None:
        try:
            kept = msgspec.msgpack.decode(state, type=_Kept)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.problem = f"drift state of {len(state)} bytes can't be read: {error}"
            return
        shape = (sequential.FIELDS, len(self._names))
        if kept.reference != self._fingerprint:
            self.problem = "drift state is of another reference"
        elif len(kept.detectors) != self._detectors.nbytes:
            self.problem = f"drift state has {len(kept.detectors)} bytes of detectors, {len(self._names)} signals need {self._detectors.nbytes}"
        else:
            found = np.frombuffer(kept.detectors, dtype=_FLOATS).astype(np.float64).reshape(shape)
            if not np.isfinite(found).all():
                self.problem = "drift state holds a number that is not finite"
                return
            self._alarm, self._detectors = kept.alarm, found


def _fingerprint(reference: DriftReference) -> bytes:
    return hashlib.sha256(msgspec.json.encode(reference.signals)).digest()[:16]
