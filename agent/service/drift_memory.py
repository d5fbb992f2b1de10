"""What each model's alarms and detectors remember, for the next runner of the same release."""

from collections.abc import Iterable

from agent.protocol.drift import DriftWindow

RELEASES = 3
"""Whose states are kept, of one model: what serves, what it replaces, a candidate."""

State = tuple[str, int, str, bytes]
"""Model, release, slice ("" is the whole), the state."""


class DriftMemory:
    """The newest state of each slice; bounded by releases, and a release's slices by its signed policy."""

    def __init__(self) -> None:
        self._models: dict[str, dict[int, dict[str, bytes]]] = {}

    def load(self, states: Iterable[State]) -> None:
        """Those from before the start of the agent, the oldest first; newer ones are not replaced."""
        for model, release, name, state in states:
            self._release(model, release).setdefault(name, state)

    def seen(self, window: DriftWindow, state: bytes) -> None:
        """A window was closed, and left ``state``; without one nothing is known."""
        if state:
            self._release(window.model, window.release)[window.slice or ""] = state

    def states(self, model: str, release: int) -> dict[str, bytes]:
        """By slice: for :attr:`agent.protocol.runner.Start.drift_states`."""
        return dict(self._models.get(model, {}).get(release, {}))

    def _release(self, model: str, release: int) -> dict[str, bytes]:
        releases = self._models.setdefault(model, {})
        found = releases.pop(release, {})
        releases[release] = found  # the last one is the newest
        while len(releases) > RELEASES:
            del releases[next(iter(releases))]
        return found
