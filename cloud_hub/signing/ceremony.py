"""Ceremonies: what people with offline keys do, as plain functions from signers to metadata files."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Role, Root, Snapshot, Targets, Timestamp

from agent.protocol.ids import is_name
from cloud_hub.signing.documents import (
    DIRECTOR,
    MODEL_FIELD,
    ROLE_LIFE,
    ROOT_LIFE,
    TARGETS_LIFE,
    utc_now,
)
from cloud_hub.signing.errors import CeremonyError
from cloud_hub.signing.keys import NAME_FIELD
from cloud_hub.signing.online import meta_file, sign_snapshot, sign_timestamp

RESERVED = frozenset({Root.type, Timestamp.type, Snapshot.type, Targets.type, DIRECTOR})
"""Names of roles that no model can have."""


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
    keys = {name: _named(name, key) for name, key in approvers.items()}
    _check(offline, root_threshold, online, director, keys, approver_signers, approver_threshold, models)
    root = _root(offline, root_threshold, online, now)
    targets = _targets(offline, director, keys, approver_threshold, models, now)
    roles = {model: empty_role(model, approver_signers, now) for model in models}
    meta = {"targets.json": meta_file(1, targets)}
    meta |= {f"{model}.json": meta_file(1, data) for model, data in roles.items()}
    snapshot = sign_snapshot(online, 1, meta, now)
    (snapshot_data,) = snapshot.values()
    return {
        "1.root.json": root,
        "1.targets.json": targets,
        **{f"1.{model}.json": data for model, data in roles.items()},
        **snapshot,
        **sign_timestamp(online, 1, 1, snapshot_data, now),
        "root.json": root,
    }


def empty_role(model: str, signers: Sequence[Signer], now: datetime) -> bytes:
    """Version 1 of a model's role: no release yet."""
    role = Targets(version=1, expires=now + ROLE_LIFE, unrecognized_fields={MODEL_FIELD: model})
    return _signed(Metadata(role), signers)


def _root(offline: Sequence[Signer], threshold: int, online: Signer, now: datetime) -> bytes:
    offline_ids = [signer.public_key.keyid for signer in offline]
    online_role = Role([online.public_key.keyid], 1)
    signers = (*offline, online)
    root = Root(
        version=1,
        expires=now + ROOT_LIFE,
        keys={signer.public_key.keyid: signer.public_key for signer in signers},
        roles={
            Root.type: Role(list(offline_ids), threshold),
            Targets.type: Role(list(offline_ids), threshold),
            Snapshot.type: online_role,
            Timestamp.type: Role(list(online_role.keyids), 1),
        },
        consistent_snapshot=True,
    )
    return _signed(Metadata(root), offline)


def _targets(
    offline: Sequence[Signer],
    director: Key,
    approvers: Mapping[str, Key],
    threshold: int,
    models: Sequence[str],
    now: datetime,
) -> bytes:
    keyids = [key.keyid for key in approvers.values()]
    roles = {
        model: DelegatedRole(model, list(keyids), threshold, terminating=True, paths=[f"models/{model}/*/*"])
        for model in models
    }
    roles[DIRECTOR] = DelegatedRole(DIRECTOR, [director.keyid], 1, terminating=True, paths=[])
    keys = {key.keyid: key for key in (*approvers.values(), director)}
    targets = Targets(version=1, expires=now + TARGETS_LIFE, delegations=Delegations(keys, roles))
    return _signed(Metadata(targets), offline)


def _signed(metadata: Metadata[Root] | Metadata[Targets], signers: Sequence[Signer]) -> bytes:
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _named(name: str, key: Key) -> Key:
    fields = key.to_dict()
    fields[NAME_FIELD] = name
    return Key.from_dict(key.keyid, fields)


def _check(
    offline: Sequence[Signer],
    root_threshold: int,
    online: Signer,
    director: Key,
    approvers: Mapping[str, Key],
    approver_signers: Sequence[Signer],
    approver_threshold: int,
    models: Sequence[str],
) -> None:
    _enough("offline keys", len(offline), root_threshold)
    _enough("approvers", len(approvers), approver_threshold)
    signing = {signer.public_key.keyid for signer in approver_signers}
    _enough("approvers who sign", len(signing), approver_threshold)
    if not signing <= {key.keyid for key in approvers.values()}:
        raise CeremonyError("a signer of the models' first versions is not one of the approvers")
    keyids = [signer.public_key.keyid for signer in (*offline, online)]
    keyids += [director.keyid, *(key.keyid for key in approvers.values())]
    if len(set(keyids)) != len(keyids):
        raise CeremonyError("one key serves twice; every holder, approver and service needs a key of its own")
    for name in models:
        if not is_name(name) or name in RESERVED:
            raise CeremonyError(f"model {name!r}: not a name, or one of {', '.join(sorted(RESERVED))}")


def _enough(what: str, count: int, threshold: int) -> None:
    if threshold < 1 or count < threshold:
        raise CeremonyError(
            f"{what}: {count} given, a threshold of {threshold} needs at least as many, and at least 1"
        )
