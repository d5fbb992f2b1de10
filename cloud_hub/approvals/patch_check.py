"""What a patch makes, found out by applying it: the approver's client believes no hub about it."""

import hashlib
import tempfile
from contextlib import ExitStack
from pathlib import Path

from agent.delta.apply import apply_patch, file_reader
from agent.delta.errors import PatchError
from cloud_hub.approvals.difference import AddedFile, AddedPatch
from cloud_hub.approvals.remote_hub import RemoteHub
from cloud_hub.signing.errors import DraftRefusedError


def check_patches(hub: RemoteHub, patches: tuple[AddedPatch, ...]) -> None:
    """Fetch each patch and its base, and apply it as a device would.

    Raises:
        DraftRefusedError: the hub's bytes are not the ones that are named, or a patch makes anything else than the
            manifest's file.
        HubAnswerError: the hub can't be asked, or does not have a file.
    """
    with tempfile.TemporaryDirectory(prefix="edgeward-approve-") as folder:
        for patch in patches:
            base = None if patch.base is None else _fetched(hub, patch.base, Path(folder))
            _check(patch, _fetched(hub, patch.file, Path(folder)), base)


def _check(patch: AddedPatch, path: Path, base: Path | None) -> None:
    made, length = hashlib.sha256(), 0
    with ExitStack() as stack:
        source = stack.enter_context(path.open("rb"))
        read_at = None if base is None else file_reader(stack.enter_context(base.open("rb")))
        try:
            for piece in apply_patch(source, read_at, patch.method, size=patch.target.length):
                made.update(piece)
                length += len(piece)
        except PatchError as error:
            raise DraftRefusedError(f"{patch.file.filename}: {error}") from error
    if (length, made.hexdigest()) != (patch.target.length, patch.target.sha256):
        raise DraftRefusedError(
            f"{patch.file.filename}: it makes another file than the manifest's {patch.target.filename}"
        )


def _fetched(hub: RemoteHub, file: AddedFile, folder: Path) -> Path:
    """The file's bytes, hashed on their way; a base of several patches is fetched once."""
    path = folder / file.sha256
    if not path.exists():
        with path.open("wb") as out:
            hub.fetch_artifact(file, out)  # what raises here ends it all, so no half file is met again
    return path
