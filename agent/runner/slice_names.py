"""Which slice a request belongs to, by the one parameter that the reference names; a bounded number of slices."""

from collections.abc import Iterable

from agent.protocol.drift import OTHER_SLICE, SlicePolicy
from agent.runner.request_facts import RequestFacts


class SliceNames:
    """Declared values, or the first ones that are seen, are told apart; all others together are ``parameter=other``."""

    def __init__(self, policy: SlicePolicy, known: Iterable[str] = ()) -> None:
        """``known``: slices from before a restart, so that the same values are told apart again."""
        self._parameter = policy.parameter
        self._maximum = policy.maximum
        self._open = not policy.values
        self.other = f"{policy.parameter}={OTHER_SLICE}"
        self._names: dict[str, str] = {}
        prefix = f"{policy.parameter}="
        seen = (name.removeprefix(prefix) for name in known if name.startswith(prefix))
        for value in policy.values or seen:
            self._admit(value)

    def name(self, facts: RequestFacts) -> str | None:
        """The request's slice; None where it does not carry the parameter: then it counts in the whole alone."""
        value = facts.value
        if value is None:
            return None
        found = self._names.get(value)
        if found is None and self._open:
            found = self._admit(value)
        return self.other if found is None else found

    def _admit(self, value: str) -> str | None:
        if value == OTHER_SLICE or len(self._names) >= self._maximum:
            return None
        name = self._names[value] = f"{self._parameter}={value}"
        return name
