"""Publish a ceremony, file after file, so that at no moment anything that is published can't be verified."""

from collections.abc import Callable, Collection
from datetime import datetime

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Timestamp

from cloud_hub.signing.ceremony_file import Ceremony
from cloud_hub.signing.documents import read
from cloud_hub.signing.errors import CeremonyError, KeyFileError
from cloud_hub.signing.online import meta_file, sign_snapshot, sign_timestamp
from cloud_hub.signing.store import MetadataStore
from cloud_hub.signing.trust_set import TrustSet, parse

HONEST_VERSIONS = 2**31
"""No hub signs so often in its life; a thief of the online key may have, to outrun every honest version."""

FindSigner = Callable[[Collection[str]], Signer | None]


def published_roots(store: MetadataStore) -> list[bytes]:
    """Every root, from version 1 on."""
    roots: list[bytes] = []
    while (data := store.get(f"{len(roots) + 1}.root.json")) is not None:
        roots.append(data)
    return roots


def published_set(store: MetadataStore) -> TrustSet:
    """What is published now.

    Raises:
        CeremonyError: there is no repository yet, or a file of it is missing.
    """
    roots = published_roots(store)
    if not roots:
        raise CeremonyError("there is no repository yet: edgeward-hub ceremony create")
    meta = _snapshot(store).meta
    names = {name.removesuffix(".json"): entry.version for name, entry in meta.items()}
    files = {role: _stored(store, f"{version}.{role}.json") for role, version in names.items()}
    return parse({Root.type: roots[-1], **files})


def publish(store: MetadataStore, ceremony: Ceremony, find: FindSigner, now: datetime) -> None:
    """Check that the ceremony is complete and still fits, and publish it.

    What is new is signed so that it holds under the old root too, and goes out before the new root. A new online key signs
    beside the old one then; where the hub has lost the old one, devices refuse the time stamp for as long as two files take.

    Raises:
        CeremonyError: signatures are missing, or something else was published since the ceremony began.
        KeyFileError: the hub does not have the online key that is named.
    """
    with store.exclusive():
        _check_current(store, ceremony)
        online = find(ceremony.after.online.keys)
        if online is None:
            raise KeyFileError("the hub does not have the online key that this ceremony names")
        files, root = _new_files(ceremony), _new_root(ceremony)
        if ceremony.before is None:
            meta = {
                f"{role}.json": meta_file(1, text.encode())
                for role, text in ceremony.file.new.items()
                if role != Root.type
            }
            store.put_all({**root, **files, **_listing(1, 1, meta, online, None, now), **_newest(root)})
            return
        old = find(ceremony.before.online.keys)
        listing = _next_listing(store, ceremony, online, old, now)
        if old is None and root:
            store.put_all(
                {**files, **{name: data for name, data in listing.items() if name != "timestamp.json"}}
            )
            store.put_all({**root, **listing, **_newest(root)})
        else:
            store.put_all({**files, **listing, **root, **_newest(root)})


def complete_root(store: MetadataStore) -> None:
    """Finish what a crash cut short: ``root.json`` is a copy of the newest root, and is written last."""
    with store.exclusive():
        roots = published_roots(store)
        if roots and store.get("root.json") not in (None, roots[-1]):
            store.put_all({"root.json": roots[-1]})


def _check_current(store: MetadataStore, ceremony: Ceremony) -> None:
    if not ceremony.complete:
        raise CeremonyError("signatures are missing: edgeward-hub ceremony show says whose")
    roots = published_roots(store)
    if ceremony.before is None:
        if roots:
            raise CeremonyError("there is a trusted root already; it is never made anew")
        return
    if [root.decode() for root in roots] != list(ceremony.file.roots):
        raise CeremonyError("the published root is not the one that this ceremony began with; begin it anew")
    published = published_set(store)
    for role in published.roles():
        known = role in ceremony.before.roles()
        if not known or published.document(role).signed_bytes != ceremony.before.document(role).signed_bytes:
            if role in published.models and role not in ceremony.file.new:
                continue  # a release was approved meanwhile, and the ceremony does not touch that model's role
            raise CeremonyError(
                f"{role} has changed since this ceremony began; begin it anew, so that nothing is lost"
            )


def _new_files(ceremony: Ceremony) -> dict[str, bytes]:
    return {
        f"{ceremony.after.document(role).signed.version}.{role}.json": text.encode()
        for role, text in ceremony.file.new.items()
        if role != Root.type
    }


def _new_root(ceremony: Ceremony) -> dict[str, bytes]:
    text = ceremony.file.new.get(Root.type)
    return {} if text is None else {f"{ceremony.after.root.signed.version}.root.json": text.encode()}


def _newest(root: dict[str, bytes]) -> dict[str, bytes]:
    return {"root.json": next(iter(root.values()))} if root else {}


def _next_listing(
    store: MetadataStore, ceremony: Ceremony, online: Signer, old: Signer | None, now: datetime
) -> dict[str, bytes]:
    snapshot = _snapshot(store)
    changed = {
        f"{role}.json": meta_file(ceremony.after.document(role).signed.version, text.encode())
        for role, text in ceremony.file.new.items()
        if role != Root.type
    }
    meta = {**snapshot.meta, **changed}
    timestamp = read(_stored(store, "timestamp.json"), Timestamp, "timestamp.json").signed
    if max(snapshot.version, timestamp.version) > HONEST_VERSIONS and _rotates_online(ceremony):
        return _listing(1, 1, meta, online, None, now)  # marks bind key sets: new keys may count anew
    return _listing(snapshot.version + 1, timestamp.version + 1, meta, online, old, now)


def _rotates_online(ceremony: Ceremony) -> bool:
    return (
        ceremony.before is not None
        and ceremony.before.online.keys.keys() != ceremony.after.online.keys.keys()
    )


def _listing(
    snapshot_version: int,
    timestamp_version: int,
    meta: dict[str, MetaFile],
    online: Signer,
    old: Signer | None,
    now: datetime,
) -> dict[str, bytes]:
    """Snapshot and timestamp, signed by the new online key and, where it is another one and here, the old one."""
    snapshot = _also(sign_snapshot(online, snapshot_version, meta, now), online, old)
    (data,) = snapshot.values()
    timestamp = sign_timestamp(online, timestamp_version, snapshot_version, data, now)
    return {**snapshot, **_also(timestamp, online, old)}


def _also(file: dict[str, bytes], online: Signer, old: Signer | None) -> dict[str, bytes]:
    if old is None or old.public_key.keyid == online.public_key.keyid:
        return file
    ((name, data),) = file.items()
    document: Metadata[Snapshot] = Metadata.from_bytes(data)
    document.sign(old, append=True)
    return {name: document.to_bytes()}


def _snapshot(store: MetadataStore) -> Snapshot:
    timestamp = read(_stored(store, "timestamp.json"), Timestamp, "timestamp.json").signed
    name = f"{timestamp.snapshot_meta.version}.snapshot.json"
    return read(_stored(store, name), Snapshot, name).signed


def _stored(store: MetadataStore, name: str) -> bytes:
    data = store.get(name)
    if data is None:
        raise CeremonyError(f"the repository has no {name}")
    return data
