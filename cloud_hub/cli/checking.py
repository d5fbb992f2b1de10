"""Look at what is published as a device does: from one's own root, with python-tuf's client."""

import argparse
import hashlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError, RepositoryError
from tuf.api.metadata import Root, Signed, Snapshot, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from agent.protocol.ids import MANIFEST_FILENAME, release_path
from agent.protocol.words import as_lines
from cloud_hub.config import load_config
from cloud_hub.errors import InputError
from cloud_hub.signing.documents import DIRECTOR
from cloud_hub.signing.errors import UntrustedBaseError
from cloud_hub.signing.keys import key_name
from cloud_hub.signing.store import FolderMetadataStore

CONFIG = UpdaterConfig(max_root_rotations=1024, max_delegations=1024)


class StoreFetcher(FetcherInterface):
    """Metadata out of the hub's own folder."""

    def __init__(self, store: FolderMetadataStore) -> None:
        self._store = store

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Raises python-tuf's download errors only."""
        data = self._store.get(url.rpartition("/")[2])
        if data is None:
            raise DownloadHTTPError(f"{url}: not published", HTTPStatus.NOT_FOUND)
        if len(data) > max_length:
            raise DownloadLengthMismatchError(f"{url}: {len(data)} bytes, {max_length} at most")
        return data

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, 1 << 30)


def add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", type=Path, required=True, metavar="FILE", help="a root.json that you trust, of any age"
    )
    parser.add_argument(
        "--config", type=Path, default=Path("hub.toml"), help="the hub's configuration (default: ./hub.toml)"
    )
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    _config, paths = load_config(arguments.config)
    try:
        root = arguments.root.read_bytes()
    except OSError as error:
        raise InputError(f"{arguments.root}: {error.strerror}") from error
    print(f"From root.json with SHA-256 {hashlib.sha256(root).hexdigest()}:")
    print(as_lines(f"  {line}" for line in verified(FolderMetadataStore(paths.metadata), root)))
    print("Everything that is published verifies.")


def verified(store: FolderMetadataStore, root: bytes) -> list[str]:
    """A line for each role that verifies from ``root``: version, expiry, who may sign.

    Raises:
        UntrustedBaseError: one does not.
    """
    with tempfile.TemporaryDirectory(prefix="edgeward-check-") as folder:
        try:
            updater = Updater(folder, "/", fetcher=StoreFetcher(store), config=CONFIG, bootstrap=root)
            updater.refresh()
            trusted = updater._trusted_set  # noqa: SLF001 - no public way to a delegated role; the version is pinned
            delegations = trusted.targets.delegations
            models = [name for name in (delegations.roles or {}) if name != DIRECTOR] if delegations else []
            for model in models:
                updater.get_targetinfo(release_path(model, 1, MANIFEST_FILENAME))
        except (RepositoryError, ValueError) as error:
            raise UntrustedBaseError(f"what is published does not verify: {error}") from error
        top = (Root.type, Targets.type, Snapshot.type, Timestamp.type)
        lines = [_line(role, trusted[role], trusted.root) for role in top]
        return lines + [_line(model, trusted[model], trusted.targets) for model in models]


def _line(role: str, signed: Signed, delegator: Root | Targets) -> str:
    delegated = delegator.get_delegated_role(role)
    names = ", ".join(key_name(delegator.get_key(keyid)) for keyid in delegated.keyids)
    days = (signed.expires - datetime.now(UTC)).days
    return (
        f"{role} version {signed.version}, {days} days left; "
        f"{delegated.threshold} of {len(delegated.keyids)} must sign: {names}"
    )
