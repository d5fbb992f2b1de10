"""A technician's hold: survives a restart, keeps new runs from starting and those from going on that have tried nothing yet."""

from collections.abc import Callable

import msgspec

from agent.protocol import telemetry
from agent.protocol.state import Reason
from agent.service.ports import Recorder, StatePort

KEY = "hold"


class Hold:
    """Whether the device is held, and why."""

    def __init__(
        self,
        reason: Reason | None,
        state: StatePort,
        recorder: Recorder,
        *,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.reason = reason
        self._state = state
        self._recorder = recorder
        self._clock = clock
        self._changed = changed

    async def set(self, reason: str | None) -> None:
        """Hold the device from now on; holding again changes the reason."""
        why = f": {reason}" if reason else ""
        await self._put(Reason(code="held-on-device", text=f"a technician holds this device{why}"))

    async def clear(self) -> None:
        """Follow the desired state again."""
        await self._put(None)

    async def _put(self, reason: Reason | None) -> None:
        await self._state.put(KEY, msgspec.json.encode(reason))
        self.reason = reason
        text = "hold ended" if reason is None else reason.text
        await self._recorder.record(
            telemetry.Event(
                time=self._clock(), severity="info", kind="hold" if reason else "resume", text=text
            )
        )
        self._changed()


async def load_hold(state: StatePort) -> Reason | None:
    """The hold from before the start."""
    data = await state.get(KEY)
    return None if data is None else msgspec.json.decode(data, type=Reason | None)
