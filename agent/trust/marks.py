"""Version high-water marks, per role and key set (pure).

python-tuf protects against rollback by the files it finds; after a power loss these may be empty. The marks are kept
apart from them, so that both together must be lost before an older version is taken.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tuf.api.metadata import Root, Targets

from agent.protocol.ids import LARGEST_NUMBER
from agent.protocol.verification import Mark
from agent.trust.errors import MALFORMED, ROLLBACK, RefusedError


@dataclass(frozen=True)
class KeySet:
    """Who may sign a role: at least ``threshold`` of ``keyids``."""

    threshold: int
    keyids: frozenset[str]

    @classmethod
    def of(cls, delegator: Root | Targets, role: str) -> "KeySet":
        """The key set that ``delegator`` gives to ``role``.

        Raises:
            ValueError: it does not delegate the role.
        """
        delegated = delegator.get_delegated_role(role)
        return cls(delegated.threshold, frozenset(delegated.keyids))

    @classmethod
    def parse(cls, text: str) -> "KeySet | None":
        """Read :attr:`text`; None where it is not that form."""
        threshold, _, keyids = text.partition(":")
        if not threshold.isdecimal() or not keyids:
            return None
        return cls(int(threshold), frozenset(keyids.split(",")))

    @property
    def text(self) -> str:
        """The form that :class:`Mark` carries."""
        return f"{self.threshold}:{','.join(sorted(self.keyids))}"

    def accepts_old(self, older: "KeySet") -> bool:
        """Whether a document signed under ``older`` may still verify under this key set."""
        return len(self.keyids & older.keyids) >= self.threshold


class MarkBook:
    """The marks as they were stored, and as they are to be stored."""

    def __init__(self, marks: Iterable[Mark]) -> None:
        self._versions: dict[tuple[str, str], int] = {}
        for mark in marks:
            self._raise(mark.role, mark.keys, mark.version)

    def floor(self, role: str, keys: KeySet) -> int:
        """The lowest version of ``role`` that is not a rollback; 0 where none was seen under these keys."""
        binding = (
            version
            for (name, text), version in self._versions.items()
            if name == role and _binds(role, text, keys)
        )
        return max(binding, default=0)

    def highest(self, role: str) -> int:
        """The highest version of ``role`` under any keys; 0 where none was seen."""
        return max((version for (name, _), version in self._versions.items() if name == role), default=0)

    def check(self, role: str, keys: KeySet, version: int) -> None:
        """Refuse a version below the floor, and one that no mark could hold.

        Raises:
            RefusedError: ``rollback-attack``, or ``malformed``.
        """
        if version > LARGEST_NUMBER:
            raise RefusedError(MALFORMED, f"{role}: version {version}, at most {LARGEST_NUMBER} are counted")
        floor = self.floor(role, keys)
        if version < floor:
            raise RefusedError(
                ROLLBACK, f"{role}: version {version} is older than {floor}, which was seen here"
            )

    def record(self, role: str, keys: KeySet, version: int) -> None:
        """Raise the mark of ``role`` under ``keys``; it never falls."""
        self._raise(role, keys.text, version)

    def marks(self) -> tuple[Mark, ...]:
        """Every mark, in a fixed order."""
        items = sorted(self._versions.items())
        return tuple(Mark(role=role, keys=keys, version=version) for (role, keys), version in items)

    def _raise(self, role: str, keys: str, version: int) -> None:
        self._versions[role, keys] = max(version, self._versions.get((role, keys), 0))


def _binds(role: str, text: str, keys: KeySet) -> bool:
    # Roots follow each other one by one, whatever their keys, so none can run ahead of the holders.
    older = KeySet.parse(text)
    return role == Root.type or older is None or keys.accepts_old(older)
