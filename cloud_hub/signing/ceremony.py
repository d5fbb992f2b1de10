"""The first ceremony where every signer is at hand: one call from signers to metadata files."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from securesystemslib.signer import Key, Signer

from cloud_hub.signing import changes
from cloud_hub.signing.ceremony_file import CeremonyFile, examine, sign
from cloud_hub.signing.documents import utc_now
from cloud_hub.signing.errors import CeremonyError
from cloud_hub.signing.keys import named_key
from cloud_hub.signing.memory_store import MemoryMetadataStore
from cloud_hub.signing.publication import publish


def create_trust(
    *,
    offline: Sequence[Signer],
    online: Signer,
    director: Key,
    approvers: Mapping[str, Key],
    approver_signers: Sequence[Signer],
    models: Sequence[str],
    root_threshold: int = 2,
    approver_threshold: int = 2,
    now: datetime | None = None,
) -> dict[str, bytes]:
    """The first repository, by file name, in the order in which it is to be stored.

    Root and top-level targets are signed by all of ``offline`` and need ``root_threshold`` of them. Each model is a
    terminating delegation of ``models/<model>/*/*`` to ``approver_threshold`` of ``approvers``; its first version
    is empty and signed by ``approver_signers``. ``online`` signs snapshot and timestamp. ``director`` is delegated
    no path at all and stands outside the snapshot: its documents travel in the desired state.

    Raises:
        CeremonyError: too few signers or approvers, a key that serves twice, a name that is not allowed.
    """
    now = now or utc_now()
    file = changes.first(
        root_keys=[signer.public_key for signer in offline],
        root_threshold=root_threshold,
        online=online.public_key,
        director=director,
        approvers=[named_key(key, name) for name, key in approvers.items()],
        approver_threshold=approver_threshold,
        models=models,
        now=now,
    )
    store = MemoryMetadataStore()
    publish(
        store, examine(sign_all(file, (*offline, *approver_signers), now), now), lambda _keyids: online, now
    )
    return store.files


def sign_all(file: CeremonyFile, signers: Sequence[Signer], now: datetime | None = None) -> CeremonyFile:
    """The file signed by each of them, which needs ``signers`` that have something to sign.

    Raises:
        CeremonyError: one has nothing to sign, or the file is not as it must be.
    """
    for signer in signers:
        file = sign(examine(file, now), signer)
    if not examine(file, now).complete:
        missing = [duty for duty in examine(file, now).duties if duty.missing]
        names = "; ".join(
            f"{duty.role}: {duty.missing} more of {', '.join(duty.open_names)}" for duty in missing
        )
        raise CeremonyError(f"too few signers: {names}")
    return file
