"""The repository as this device trusts it: python-tuf's updater in a temporary folder, filled from what was stored.

python-tuf does not fsync, and takes an older repository when the files it left are empty (an ordinary power loss).
So its folder lives as long as one check, and the version marks are compared before anything is taken.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig

from agent.protocol.ids import LARGEST_NUMBER
from agent.protocol.limits import MAX_METADATA_BYTES
from agent.protocol.state import RoleExpiry
from agent.protocol.verification import FetchedMetadata
from agent.trust.director import FILE as DIRECTOR_FILE
from agent.trust.director import ISSUED_FIELD, read_issued
from agent.trust.errors import EXPIRED, MALFORMED, RefusedError, as_trust_error
from agent.trust.fetcher import BASE_URL, Fetch, ParentFetcher
from agent.trust.marks import KeySet, MarkBook
from agent.trust.releases import delegation

CONFIG = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=32,
    root_max_length=256 * 1024,  # bytes, as the others
    timestamp_max_length=16 * 1024,
    snapshot_max_length=MAX_METADATA_BYTES,
    targets_max_length=MAX_METADATA_BYTES,
)
TOP_LEVEL = (Timestamp.type, Snapshot.type, Targets.type)
TIME = ":time"
"""Mark of hub-signed time, Unix seconds, under the keys that signed it: with a stolen key goes the time it signed."""
HISTORY = "root_history"
"""Where the updater looks for the chain of roots."""

_STORED_ROOT = re.compile(r"[1-9][0-9]{0,9}\.root\.json")
_STORED_ROLE = re.compile(r"[A-Za-z0-9._~%-]{1,128}\.json")
"""Role names are quoted, so that none can be a path."""


class TrustedRepository:
    """One refresh of the repository, and the model roles loaded after it."""

    def __init__(
        self,
        *,
        folder: Path,
        root: bytes,
        stored: Mapping[str, bytes],
        fetch: Fetch,
        now: datetime,
        marks: MarkBook,
        system: datetime | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            folder: empty, and gone after the check.
            root: the bootstrap root from enrolment; the chain of roots is walked from it every time.
            stored: files of earlier checks, by name; each is verified again.
            fetch: asks the parent.
            now: trusted time, UTC.
            system: the part of it that the hub did not sign; None: all of it.
            marks: read, and raised by what is accepted.

        Raises:
            TrustError: the bootstrap root can't be used.
        """
        self._folder = folder
        self._stored = stored
        self._marks = marks
        self._accepted: set[str] = set()
        self._system = system
        self._fetch = fetch
        _fill(folder, stored)
        # The chain is walked from the root of enrolment each time, so what is stored of it must not count against the limit.
        known = sum(_STORED_ROOT.fullmatch(name) is not None for name in stored)
        config = replace(CONFIG, max_root_rotations=CONFIG.max_root_rotations + known)
        try:
            self._updater = Updater(
                str(folder), BASE_URL, fetcher=ParentFetcher(self._asking), config=config, bootstrap=root
            )
        except (RepositoryError, ValueError) as error:
            raise as_trust_error(error, "the root from enrolment") from error
        self._trusted = self._updater._trusted_set  # noqa: SLF001 - no public way to set the time; the version is pinned
        self._trusted.reference_time = now
        self._bootstrap_file = f"{self._trusted.root.version}.root.json"

    @property
    def now(self) -> datetime:
        """Trusted time as it is judged by: without what was signed by keys that the holders have replaced since."""
        return self._trusted.reference_time

    @property
    def root(self) -> Root:
        """The newest root that was verified."""
        return self._trusted.root

    @property
    def targets(self) -> Targets:
        """Verified top-level targets, after :meth:`refresh`."""
        return self._trusted.targets

    def refresh(self) -> None:
        """Bring root, timestamp, snapshot and targets up to date, and compare them with the marks.

        What was verified before an error is kept (:meth:`changed_files`), a rollback never is.

        Raises:
            TrustError: refused, or the hub could not be asked.
        """
        try:
            self._updater.refresh()
        except EOFError:
            raise  # the parent is gone: nobody is left to be told
        except Exception as error:  # a hostile document may raise anything in a parser
            raise as_trust_error(error, "the repository") from error
        finally:
            self._accept_what_holds()
        root = self._trusted.root
        for role in (Root.type, *TOP_LEVEL):
            self._marks.check(self.mark_name(role), KeySet.of(root, role), self._trusted[role].version)

    def settle(self, director: str) -> bool:
        """After :meth:`refresh`: judge what was taken by the time that the director's present keys have signed as well.

        Returns whether signed time was lost with the keys that signed it.

        Raises:
            RefusedError: ``expired``.
        """
        replaced = self.signed_time(director) < self._marks.highest(TIME)
        signed = datetime.fromtimestamp(self.signed_time(director), UTC)
        self._trusted.reference_time = max(self._trusted.reference_time, signed)
        for role in (Root.type, *TOP_LEVEL):
            if self._trusted[role].is_expired(self.now):
                raise RefusedError(EXPIRED, f"the repository: {role}.json is expired")
        return replaced

    def record_time(self, keys: KeySet, moment: float) -> None:
        """Remember a time that the hub signed with ``keys``, Unix seconds."""
        self._marks.record(TIME, keys, int(self.capped(moment)))

    def signed_time(self, director: str) -> int:
        """The newest time signed by a key that is the hub's now, Unix seconds; 0 before the first."""
        times = [self._marks.floor(TIME, KeySet.of(self._trusted.root, Timestamp.type))]
        with contextlib.suppress(ValueError):  # a repository without a director
            times.append(self._marks.floor(TIME, KeySet.of(self.targets, director)))
        return max(times)

    def _asking(self, name: str, maximum_bytes: int) -> FetchedMetadata:
        """Before the timestamp is asked for, the newest root is known, and so which signed times still count."""
        if name == f"{Timestamp.type}.json" and self._system is not None:
            floor = self._marks.floor(TIME, KeySet.of(self._trusted.root, Timestamp.type))
            if floor < self._marks.highest(TIME):
                self._trusted.reference_time = max(self._system, datetime.fromtimestamp(floor, UTC))
        return self._fetch(name, maximum_bytes)

    def model_role(self, model: str, path: str) -> Targets:
        """The verified role of ``model``, found by looking up one of its target paths.

        Raises:
            RefusedError: no such model, not signed by enough approvers, expired, or older than was seen.
            UnreachableError: the hub could not be asked.
            LocalFaultError: this device could not do it.
        """
        delegated = delegation(self.targets, model)
        if not delegated.is_delegated_path(path):
            raise RefusedError(MALFORMED, f"{path}: not a path of {model}")
        self._walk(path, f"the approved releases of {model}")
        if not self._trusted.contains(model, Targets.type):
            raise RefusedError(MALFORMED, f"{path}: another role than {model} answers for it")
        role = self._trusted[model]
        if not isinstance(role, Targets):
            raise RefusedError(MALFORMED, f"{model} is {role.type} metadata, not targets")
        self._accept_delegated(Targets.type, model)
        return role

    def find(self, path: str) -> TargetFile | None:
        """What the repository says of any target path, delegations followed as the TUF specification says; None: nothing.

        A device asks for its models' roles alone (:meth:`model_role`); this is for repositories that are not Edgeward's.

        Raises:
            TrustError: a role on the way was refused, or the repository could not be asked.
        """
        before = self._delegations()
        try:
            return self._walk(path, path)
        finally:
            for delegator, role in sorted(self._delegations() - before):
                self._accept_delegated(delegator, role)

    def _walk(self, path: str, what: str) -> TargetFile | None:
        try:
            return self._updater.get_targetinfo(path)
        except EOFError:
            raise
        except Exception as error:  # as in refresh
            raise as_trust_error(error, what) from error

    def _delegations(self) -> set[tuple[str, str]]:
        """(delegator, role) of every targets role that was verified."""
        pairs = self._trusted._trusted_delegations  # noqa: SLF001 - as reference_time
        return {pair for pair in pairs if pair[0] != Root.type}

    def _accept_delegated(self, delegator: str, role: str) -> None:
        by, signed = self._trusted[delegator], self._trusted[role]
        if not isinstance(by, Targets):
            raise RefusedError(MALFORMED, f"{role}: delegated by {delegator}, which is {by.type} metadata")
        keys = KeySet.of(by, role)
        self._marks.check(self.mark_name(role), keys, signed.version)
        self._accept(role, keys, signed.version)

    def mark_name(self, role: str) -> str:
        """Under which name the version mark of a role is kept."""
        return role

    def changed_files(self) -> dict[str, bytes]:
        """Accepted files that differ from the stored ones."""
        files = {path.name: path.read_bytes() for path in sorted((self._folder / HISTORY).iterdir())}
        for role in sorted(self._accepted):
            path = self._folder / f"{quote(role, '')}.json"
            if path.exists():
                files[path.name] = path.read_bytes()
        files.pop(self._bootstrap_file, None)
        return {name: data for name, data in files.items() if self._stored.get(name) != data}

    def hub_time(self) -> float | None:
        """The time in the accepted timestamp, Unix seconds: at most its own and the root's expiry."""
        timestamp = self._trusted.get(Timestamp.type)
        if Timestamp.type not in self._accepted or timestamp is None:
            return None
        issued = read_issued(timestamp.unrecognized_fields.get(ISSUED_FIELD), timestamp.expires)
        return None if issued is None else self.capped(issued)

    def expiry(self) -> tuple[RoleExpiry, ...]:
        """Until when each verified role holds; also of one that has expired, where that is why a check ended."""
        delegated = sorted({role for _, role in self._delegations()})
        return tuple(
            RoleExpiry(role=role, expires=self._trusted[role].expires.timestamp())
            for role in (Root.type, *TOP_LEVEL, *delegated)
            if role in self._trusted
        )

    def capped(self, moment: float) -> float:
        """At most the root's expiry: a stolen online key can't push a device's clock beyond it."""
        return min(moment, self._trusted.root.expires.timestamp())

    def _accept_what_holds(self) -> None:
        root = self._trusted.root
        keys = KeySet.of(root, Root.type)
        if root.version < self._marks.floor(self.mark_name(Root.type), keys):
            return  # roots are missing, so nothing under this one counts
        self._marks.record(self.mark_name(Root.type), keys, root.version)
        for role in TOP_LEVEL:
            signed = self._trusted.get(role)
            keys = KeySet.of(root, role)
            if signed is None:
                return
            if not self._marks.floor(self.mark_name(role), keys) <= signed.version <= LARGEST_NUMBER:
                return
            self._accept(role, keys, signed.version)
            moment = self.hub_time() if role == Timestamp.type else None
            if moment is not None:
                self.record_time(keys, moment)

    def _accept(self, role: str, keys: KeySet, version: int) -> None:
        self._marks.record(self.mark_name(role), keys, version)
        self._accepted.add(role)


def _fill(folder: Path, stored: Mapping[str, bytes]) -> None:
    history = folder / HISTORY
    history.mkdir()
    for name, data in stored.items():
        if _STORED_ROOT.fullmatch(name):
            (history / name).write_bytes(data)
        elif _STORED_ROLE.fullmatch(name) and name != DIRECTOR_FILE:
            (folder / name).write_bytes(data)
