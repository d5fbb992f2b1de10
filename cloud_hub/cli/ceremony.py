"""Ceremonies on the hub's own folder: from keys and words to a published repository, written into the audit log."""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.signer import Key

from cloud_hub.audit.service import record
from cloud_hub.config import Paths
from cloud_hub.database import Database
from cloud_hub.errors import ConflictError
from cloud_hub.signing import changes
from cloud_hub.signing.ceremony import sign_all
from cloud_hub.signing.ceremony_file import Ceremony, CeremonyFile, examine
from cloud_hub.signing.changes import Changes
from cloud_hub.signing.keys import create_key, key_name, load_public_key, public_path
from cloud_hub.signing.own_keys import DIRECTOR_KEY, ONLINE_KEY, OwnKeys
from cloud_hub.signing.publication import publish, published_roots, published_set
from cloud_hub.signing.store import FolderMetadataStore
from cloud_hub.signing.trust_set import TrustSet
from cloud_hub.signing.words import describe


def hold_ceremony(
    paths: Paths,
    keys_dir: Path,
    *,
    approvers: Sequence[str],
    models: Sequence[str],
    root_keys: int,
    threshold: int,
) -> bytes:
    """Make ``keys_dir/offline/root-N``, ``keys_dir/approvers/NAME`` and the first repository; its root.json.

    Raises:
        ConflictError: the hub has a repository already.
        SigningError: a key exists, or the parts do not fit.
    """
    require_no_root(paths)
    offline = [create_key(keys_dir / "offline", f"root-{number}") for number in range(1, root_keys + 1)]
    people = [create_key(keys_dir / "approvers", name) for name in approvers]
    file = begin_first(
        paths,
        root_keys=[signer.public_key for signer in offline],
        approvers=[signer.public_key for signer in people],
        models=models,
        root_threshold=threshold,
        approver_threshold=threshold,
    )
    return publish_ceremony(paths, examine(sign_all(file, [*offline, *people])), "create")


def require_no_root(paths: Paths) -> None:
    """Raises ConflictError: the hub has a repository already."""
    if FolderMetadataStore(paths.metadata).get("root.json") is not None:
        raise ConflictError(f"{paths.metadata} has a trusted root already; it is never made anew")


def begin_first(
    paths: Paths,
    *,
    root_keys: Sequence[Key],
    approvers: Sequence[Key],
    models: Sequence[str],
    root_threshold: int,
    approver_threshold: int,
) -> CeremonyFile:
    """The first repository, unsigned.

    Raises:
        ConflictError: the hub has one already.
        SigningError: the parts do not fit.
    """
    require_no_root(paths)
    return changes.first(
        root_keys=root_keys,
        root_threshold=root_threshold,
        online=load_public_key(public_path(paths.online_keys, ONLINE_KEY)),
        director=load_public_key(public_path(paths.online_keys, DIRECTOR_KEY)),
        approvers=approvers,
        approver_threshold=approver_threshold,
        models=models,
        now=datetime.now(UTC),
    )


def begin(paths: Paths, change: Callable[[Changes, TrustSet], None]) -> CeremonyFile:
    """What is published with ``change`` made to it, unsigned.

    Raises:
        SigningError: there is no repository, or the change makes no sense.
    """
    store = FolderMetadataStore(paths.metadata)
    published = published_set(store)
    under_way = Changes(published, datetime.now(UTC))
    change(under_way, published)
    return under_way.finish(published_roots(store))


def publish_ceremony(paths: Paths, ceremony: Ceremony, kind: str) -> bytes:
    """Publish a complete ceremony and write it into the audit log; the newest root.json.

    A running hub takes notice by itself: it reads metadata and keys at each use, voids the signatures on drafts whose base is
    gone, and signs its devices' documents anew where the director's key is another one.

    Raises:
        SigningError: it is not complete, or does not fit any more.
    """
    keys, store = OwnKeys(paths.online_keys), FolderMetadataStore(paths.metadata)
    publish(store, ceremony, keys.find, datetime.now(UTC))
    _audit(paths, ceremony, kind)
    keys.retire(ONLINE_KEY, ceremony.after.online.keys)
    keys.retire(DIRECTOR_KEY, ceremony.after.director.keys)
    return (paths.metadata / "root.json").read_bytes()


def _audit(paths: Paths, ceremony: Ceremony, kind: str) -> None:
    root = (paths.metadata / "root.json").read_bytes()
    signed = {key_name(duty.holders.keys[keyid]) for duty in ceremony.duties for keyid in duty.signed}
    with closing(Database(paths.database)) as database:
        database.migrate()
        database.write(
            lambda session: record(
                session,
                now=time.time(),
                actor="cli",
                action="ceremony",
                subject=kind,
                what=describe(ceremony),
                signed_by=", ".join(sorted(signed)),
                root_version=ceremony.after.root.signed.version,
                root_sha256=hashlib.sha256(root).hexdigest(),
            )
        )
