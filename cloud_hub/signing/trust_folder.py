"""What one person trusts, on that person's machine: the root that was handed over, and all that was verified since.

``root.json`` starts it. ``trust.json`` (and its twin, written second) holds the newest verified metadata and the highest
versions seen, durable before anything is signed: a machine that lost its power is not shown an older repository.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct
from tuf.api.metadata import Metadata, Root

from agent.protocol.verification import Mark
from cloud_hub.durable import write_durably
from cloud_hub.signing.ceremony_file import check_next_root
from cloud_hub.signing.documents import read
from cloud_hub.signing.errors import CeremonyError, RepositoryStateError, TrustFolderError, UntrustedBaseError
from cloud_hub.signing.trust_set import Holders, TrustSet

NAMES = ("trust.json", "trust.copy.json")


class Seen(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is kept."""

    number: int
    """Grows with each writing: of two files, the newer one counts."""
    files: dict[str, str]
    """Verified metadata by file name, roots included."""
    marks: tuple[Mark, ...]


class _Sealed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sha256: str
    seen: msgspec.Raw


class TrustFolder:
    """One folder of one person."""

    def __init__(self, folder: Path) -> None:
        """Read what is there.

        Raises:
            TrustFolderError: ``root.json`` is missing, or what was kept is damaged in both places.
        """
        self._folder = folder
        try:
            self.bootstrap = (folder / "root.json").read_bytes()
        except OSError as error:
            raise TrustFolderError(
                f"{folder / 'root.json'}: {error.strerror}; the ceremony hands it over"
            ) from error
        self._seen = _newest(folder)
        self._versions = {(mark.role, mark.keys): mark.version for mark in self._seen.marks}

    @property
    def files(self) -> dict[str, bytes]:
        """Verified metadata by file name."""
        return {name: text.encode() for name, text in self._seen.files.items()}

    def check(self, role: str, holders: Holders, version: int) -> None:
        """Compare a verified document with the highest version seen under keys that could have signed both.

        Raises:
            UntrustedBaseError: it is older.
        """
        floor = max(
            (
                seen
                for (name, keys), seen in self._versions.items()
                if name == role and _binds(role, keys, holders)
            ),
            default=0,
        )
        if version < floor:
            raise UntrustedBaseError(
                f"the hub publishes version {version} of {role}; you have seen {floor} already. Somebody shows you an older "
                "repository: do not sign, and ask the others"
            )

    def note(self, role: str, holders: Holders, version: int) -> None:
        """Raise the mark; it is kept by :meth:`save`."""
        key = (role, _key_text(holders))
        self._versions[key] = max(version, self._versions.get(key, 0))

    def save(self, files: Mapping[str, bytes]) -> None:
        """Keep the marks, and ``files`` beside those that were kept; durable when it returns.

        Raises:
            TrustFolderError: the folder can't be written.
        """
        marks = tuple(
            Mark(role=role, keys=keys, version=version)
            for (role, keys), version in sorted(self._versions.items())
        )
        kept = self._seen.files | {name: data.decode() for name, data in files.items()}
        if (kept, marks) == (self._seen.files, self._seen.marks):
            return
        self._seen = Seen(number=self._seen.number + 1, files=kept, marks=marks)
        payload = msgspec.json.encode(self._seen)
        sealed = _Sealed(sha256=hashlib.sha256(payload).hexdigest(), seen=msgspec.Raw(payload))
        try:
            for name in NAMES:
                write_durably(self._folder / name, msgspec.json.encode(sealed))
        except OSError as error:
            raise TrustFolderError(f"{self._folder}: {error.strerror}; nothing was signed") from error

    def newest_root(self) -> Metadata[Root]:
        """The newest root that was verified from the first one."""
        root = _root(self.bootstrap, str(self._folder / "root.json"))
        while (data := self.files.get(f"{root.signed.version + 1}.root.json")) is not None:
            root = _step(root, data)
        return root

    def accept(self, roots: tuple[bytes, ...], published: TrustSet) -> None:
        """Check that what a ceremony file calls published leads back to this folder's root, and remember it.

        Raises:
            UntrustedBaseError: it does not, or it is older than what was seen.
        """
        mine = self.newest_root()
        versions = [_root(data, "a root in the file") for data in roots]
        match = [root for root in versions if root.signed.version == mine.signed.version]
        if not match:
            raise UntrustedBaseError(
                f"you trust root {mine.signed.version}, and the file ends at root {len(versions)}: it is older"
            )
        if match[0].signed_bytes != mine.signed_bytes:
            raise UntrustedBaseError(f"root {mine.signed.version} in the file is not the one that you trust")
        root, files = mine, {}
        for newer, data in zip(versions, roots, strict=True):
            if newer.signed.version > root.signed.version:
                root = _step(root, data)
                files[f"{root.signed.version}.root.json"] = data
        roles = published.roles()
        every = {role: self._holders(published, role) for role in roles}
        for role, holders in every.items():
            self.check(role, holders, published.document(role).signed.version)
        for role, holders in every.items():
            self.note(role, holders, published.document(role).signed.version)
        self.save(files)

    def _holders(self, published: TrustSet, role: str) -> Holders:
        if role in published.models:
            return published.holders(role)
        return published.root_holders if role == Root.type else published.targets_holders


def _step(older: Metadata[Root], data: bytes) -> Metadata[Root]:
    newer = _root(data, f"root {older.signed.version + 1}")
    try:
        check_next_root(older, newer)
    except CeremonyError as error:
        raise UntrustedBaseError(str(error)) from error
    return newer


def _root(data: bytes, name: str) -> Metadata[Root]:
    try:
        return read(data, Root, name)
    except RepositoryStateError as error:
        raise UntrustedBaseError(str(error)) from error


def _newest(folder: Path) -> Seen:
    found, damaged = [], []
    for name in NAMES:
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TrustFolderError(f"{folder / name}: {error.strerror}") from error
        seen = _opened(data)
        (damaged.append(name) if seen is None else found.append(seen))
    if damaged and not found:
        raise TrustFolderError(
            f"{folder}: {' and '.join(damaged)} can't be read. They hold what you have seen, which keeps a stolen hub from "
            "showing you an older repository. Restore one from a backup; only if there is none, remove them and ask another "
            "approver which versions are published"
        )
    return max(found, key=lambda seen: seen.number, default=Seen(number=0, files={}, marks=()))


def _opened(data: bytes) -> Seen | None:
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        if hashlib.sha256(bytes(sealed.seen)).hexdigest() != sealed.sha256:
            return None
        return msgspec.json.decode(sealed.seen, type=Seen)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _key_text(holders: Holders) -> str:
    return f"{holders.threshold}:{','.join(sorted(holders.keys))}"


def _binds(role: str, keys: str, holders: Holders) -> bool:
    """Whether what those keys signed could still be taken now (docs/decisions/0003)."""
    older = set(keys.partition(":")[2].split(","))
    return role == Root.type or len(older & set(holders.keys)) >= holders.threshold
