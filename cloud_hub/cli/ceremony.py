"""The first ceremony, from keys on disk to a published repository."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from cloud_hub.audit.service import record
from cloud_hub.config import Paths
from cloud_hub.database import Database
from cloud_hub.errors import ConflictError
from cloud_hub.hub import DIRECTOR_KEY, ONLINE_KEY
from cloud_hub.signing.ceremony import create_trust
from cloud_hub.signing.keys import create_key, load_public_key, open_key, public_path
from cloud_hub.signing.store import FolderMetadataStore


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
    store = FolderMetadataStore(paths.metadata)
    if store.get("root.json") is not None:
        raise ConflictError(f"{paths.metadata} has a trusted root already; it is never made anew")
    offline = [create_key(keys_dir / "offline", f"root-{number}") for number in range(1, root_keys + 1)]
    people = {name: create_key(keys_dir / "approvers", name) for name in approvers}
    files = create_trust(
        offline=offline,
        online=open_key(paths.online_keys, ONLINE_KEY),
        director=load_public_key(public_path(paths.online_keys, DIRECTOR_KEY)),
        approvers={name: signer.public_key for name, signer in people.items()},
        approver_signers=list(people.values()),
        models=models,
        root_threshold=threshold,
        approver_threshold=threshold,
    )
    store.put_all(files)
    root = files["root.json"]
    with closing(Database(paths.database)) as database:
        database.migrate()
        database.write(
            lambda session: record(
                session,
                now=time.time(),
                actor="cli",
                action="ceremony",
                subject=", ".join(models),
                root_sha256=hashlib.sha256(root).hexdigest(),
                approvers=", ".join(approvers),
                threshold=threshold,
            )
        )
    return root
