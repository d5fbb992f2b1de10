"""The hub's own keys: the online one and the director's. Which of those in the folder counts, the published metadata says.

``hub init`` makes ``online`` and ``director``; a rotation adds ``online-2`` and so on. A key is in use from the moment
at which the metadata that names it is published, so no crash leaves keys and metadata apart.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from securesystemslib.signer import Key, Signature, Signer
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from cloud_hub.durable import write_durably
from cloud_hub.signing.documents import DIRECTOR, read
from cloud_hub.signing.errors import KeyFileError, RepositoryStateError
from cloud_hub.signing.keys import (
    create_key,
    load_public_key,
    open_key,
    private_path,
    public_path,
    save_public_key,
    uri_path,
)
from cloud_hub.signing.store import MetadataStore

ONLINE_KEY = "online"
DIRECTOR_KEY = DIRECTOR
_NAME = re.compile(rf"({ONLINE_KEY}|{DIRECTOR_KEY})(-[1-9][0-9]{{0,5}})?\.pub\.json")


class OwnKeys:
    """One folder of key files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, keyids: Collection[str]) -> Signer | None:
        """The signer of the first of ``keyids`` whose key is here.

        Raises:
            KeyFileError: it is here, and can't be opened.
        """
        for name, key in self._public().items():
            if key.keyid in keyids:
                return open_key(self._folder, name)
        return None

    def make(self, kind: str) -> Key:
        """A new key of ``kind``, not in use before metadata names it; its public half."""
        return create_key(self._folder, self._free(kind)).public_key

    def adopt(self, kind: str, uri: str, public: Key) -> Key:
        """Note a key that is kept elsewhere, by its ``securesystemslib`` URI; its public half."""
        name = self._free(kind)
        write_durably(uri_path(self._folder, name), uri.encode() + b"\n", mode=0o600)
        save_public_key(public_path(self._folder, name), public)
        return public

    def retire(self, kind: str, used: Collection[str]) -> tuple[str, ...]:
        """Remove the keys of ``kind`` that are not ``used``: names of the key files that are gone."""
        gone = []
        for name, key in self._public().items():
            if name.split("-")[0] == kind and key.keyid not in used:
                for path in (private_path, uri_path, public_path):
                    path(self._folder, name).unlink(missing_ok=True)
                gone.append(name)
        return tuple(gone)

    def _public(self) -> dict[str, Key]:
        names = sorted(path.name for path in self._folder.glob("*.pub.json") if _NAME.fullmatch(path.name))
        return {
            name.removesuffix(".pub.json"): load_public_key(self._folder / name) for name in reversed(names)
        }

    def _free(self, kind: str) -> str:
        number = 2
        while public_path(self._folder, f"{kind}-{number}").exists():
            number += 1
        return f"{kind}-{number}"


class CurrentSigner(Signer):
    """Signs with the key that the published metadata names at that moment.

    Args:
        keys: where the private keys are.
        kind: for the error.
        named: bytes that change whenever the key may have changed, and a function from them to the ids that count.
    """

    def __init__(
        self, keys: OwnKeys, kind: str, named: Callable[[], tuple[bytes, Callable[[], list[str]]]]
    ) -> None:
        self._keys = keys
        self._kind = kind
        self._named = named
        self._found: tuple[bytes, Signer] | None = None

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: object = None) -> Signer:
        """Not how this one is made."""
        raise NotImplementedError

    @property
    def public_key(self) -> Key:
        return self._signer().public_key

    def sign(self, payload: bytes) -> Signature:
        return self._signer().sign(payload)

    def _signer(self) -> Signer:
        state, keyids = self._named()
        if self._found is None or self._found[0] != state:
            named = keyids()
            signer = self._keys.find(named)
            if signer is None:
                ids = ", ".join(keyid[:16] for keyid in named)
                raise KeyFileError(
                    f"the hub does not have the {self._kind} key that the repository names ({ids}…); "
                    "restore it, or make a new one: edgeward-hub ceremony recover-online"
                )
            self._found = (state, signer)
        return self._found[1]


def online_signer(keys: OwnKeys, store: MetadataStore) -> CurrentSigner:
    """The key of snapshot and timestamp, which the newest root names."""

    def named() -> tuple[bytes, Callable[[], list[str]]]:
        data = _stored(store, "root.json")
        return data, lambda: read(data, Root, "root.json").signed.roles[Timestamp.type].keyids

    return CurrentSigner(keys, ONLINE_KEY, named)


def director_signer(keys: OwnKeys, store: MetadataStore) -> CurrentSigner:
    """The key of the devices' documents, which the published top-level targets name."""

    def named() -> tuple[bytes, Callable[[], list[str]]]:
        data = _stored(store, "timestamp.json")
        return data, lambda: _director_keyids(store, data)

    return CurrentSigner(keys, DIRECTOR_KEY, named)


def _director_keyids(store: MetadataStore, timestamp: bytes) -> list[str]:
    version = read(timestamp, Timestamp, "timestamp.json").signed.snapshot_meta.version
    snapshot = read(_stored(store, f"{version}.snapshot.json"), Snapshot, "snapshot.json").signed
    number = snapshot.meta[f"{Targets.type}.json"].version
    targets = read(_stored(store, f"{number}.targets.json"), Targets, "targets.json").signed
    return targets.get_delegated_role(DIRECTOR).keyids


def _stored(store: MetadataStore, name: str) -> bytes:
    data = store.get(name)
    if data is None:
        raise RepositoryStateError(f"the repository has no {name}")
    return data
