"""Check a bundle before anyone carries it anywhere: without the hub, from a trusted root, down to the last byte."""

import json
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from agent.protocol.bundle import BundleFile, BundleIndex, OpenedBundle, open_bundle
from agent.protocol.envelope import BUNDLE_TYPE
from agent.protocol.errors import ProtocolError
from agent.protocol.ids import Sha256
from agent.protocol.limits import MAX_METADATA_BYTES
from cloud_hub.errors import InputError
from cloud_hub.signing.director import DEVICE_FIELD
from cloud_hub.signing.documents import DIRECTOR, stamp

CHUNK_BYTES = 1024 * 1024
BASE_URL = "bundle:///"


class CheckedBundle(Struct, frozen=True, kw_only=True):
    """A bundle in which everything holds."""

    index: BundleIndex
    digest: Sha256
    """Of the signed index: receipts name it."""
    root_sha256: Sha256
    """Of the root of trust that it was checked from."""
    size: int


def check_bundle(file: BinaryIO, size: int, root: bytes | None) -> CheckedBundle:
    """Check form, signatures, documents, releases, and the hash of every file.

    Args:
        file: the bundle, open for reading.
        size: bytes it has.
        root: a trusted ``root.json`` of the hub; None: the bundle's own first one, which proves that it is consistent.

    Raises:
        InputError: something does not hold; the text says what.
    """
    try:
        bundle = open_bundle(lambda offset, length: _read(file, offset, length), size)
    except ProtocolError as error:
        raise InputError(str(error)) from error
    if bundle.index.expires <= time.time():
        raise InputError(
            f"it expired at {stamp(datetime.fromtimestamp(bundle.index.expires, UTC))}; export a new one"
        )
    for entry, digest in _hashes(file, bundle):
        if digest != entry.sha256:
            raise InputError(
                f"{entry.name}: its bytes are not the ones that the index names; copy the bundle again"
            )
    source = _Fetcher(file, bundle)
    trusted = root or source.get("1.root.json")
    if trusted is None:
        raise InputError("there is no root of trust in it, so nothing can be checked")
    try:
        with tempfile.TemporaryDirectory(prefix="edgeward-bundle-") as folder:
            updater = Updater(folder, BASE_URL, fetcher=source, config=_config(), bootstrap=trusted)
            updater.refresh()
            targets = updater._trusted_set.targets  # noqa: SLF001 - no public way to the delegations; the version is pinned
            _check_signature(bundle.envelope, targets)
            for device in bundle.index.devices:
                document = source.read("director", device.device)
                _check_device(document, device.device, targets, updater)
            _check_artifacts(bundle.index, updater)
    except (RepositoryError, ValueError) as error:
        hint = "" if root is None else "; is it of this hub?"
        raise InputError(f"what is in it does not verify: {error}{hint}") from error
    return CheckedBundle(
        index=bundle.index, digest=bundle.digest, root_sha256=sha256(trusted).hexdigest(), size=size
    )


def _check_signature(envelope: bytes, targets: Targets) -> None:
    role = targets.get_delegated_role(DIRECTOR)
    keys = [targets.get_key(keyid) for keyid in role.keyids]
    signed = Envelope.from_dict(json.loads(envelope))
    if signed.payload_type != BUNDLE_TYPE:
        raise InputError("the index is not one of a bundle")
    try:
        signed.verify(keys, role.threshold)
    except VerificationError as error:
        raise InputError("the index is not signed by the director's key of this hub") from error


def _check_device(data: bytes | None, device: str, targets: Targets, updater: Updater) -> None:
    if data is None:
        raise InputError(f"{device}: its document is missing")
    document = Metadata[Targets].from_bytes(data)
    targets.verify_delegate(DIRECTOR, document.signed_bytes, document.signatures)
    if document.signed.unrecognized_fields.get(DEVICE_FIELD) != device:
        raise InputError(f"{device}: the document in its place is another device's")
    for path, wanted in document.signed.targets.items():
        approved = updater.get_targetinfo(path)
        if approved is None or (approved.length, approved.hashes) != (wanted.length, wanted.hashes):
            raise InputError(f"{device}: {path} is not what the approvers signed")


def _check_artifacts(index: BundleIndex, updater: Updater) -> None:
    for file in index.files:
        if file.kind != "artifact":
            continue
        approved = updater.get_targetinfo(file.name)
        if approved is None or (approved.length, approved.hashes) != (file.size, {"sha256": file.sha256}):
            raise InputError(f"{file.name} is not what the approvers signed")


def _hashes(file: BinaryIO, bundle: OpenedBundle) -> Iterator[tuple[BundleFile, str]]:
    for entry, offset in bundle.places.values():
        digest, end = sha256(), offset + entry.size
        for place in range(offset, end, CHUNK_BYTES):
            digest.update(_read(file, place, min(CHUNK_BYTES, end - place)))
        yield entry, digest.hexdigest()


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


class _Fetcher(FetcherInterface):
    """The bundle's metadata for python-tuf."""

    def __init__(self, file: BinaryIO, bundle: OpenedBundle) -> None:
        self._file = file
        self._bundle = bundle

    def read(self, kind: str, name: str) -> bytes | None:
        place = self._bundle.places.get((kind, name))
        if place is None or place[0].size > MAX_METADATA_BYTES:
            return None
        return _read(self._file, place[1], place[0].size)

    def get(self, name: str) -> bytes | None:
        return self.read("metadata", name)

    def _fetch(self, url: str) -> Iterator[bytes]:
        data = self.get(url.removeprefix(BASE_URL))
        if data is None:
            raise DownloadHTTPError(f"the bundle has no {url.removeprefix(BASE_URL)}", 404)
        return iter((data,))


def _config() -> UpdaterConfig:
    return UpdaterConfig(snapshot_max_length=MAX_METADATA_BYTES, targets_max_length=MAX_METADATA_BYTES)


def check_file(path: Path, root: Path | None) -> CheckedBundle:
    """:func:`check_bundle` of a file; raises InputError also where it can't be read."""
    try:
        trusted = None if root is None else root.read_bytes()
        with path.open("rb") as file:
            return check_bundle(file, path.stat().st_size, trusted)
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
