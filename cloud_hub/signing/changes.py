"""What ceremonies change: from what is published to an unsigned ceremony file (pure)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Role, Root, Snapshot, Targets, Timestamp

from cloud_hub.signing.ceremony_file import CeremonyFile
from cloud_hub.signing.documents import DIRECTOR, MODEL_FIELD, ROLE_LIFE, ROOT_LIFE, TARGETS_LIFE
from cloud_hub.signing.errors import CeremonyError
from cloud_hub.signing.keys import key_name
from cloud_hub.signing.trust_set import TrustSet, check_model_name, check_threshold


def first(
    *,
    root_keys: Sequence[Key],
    root_threshold: int,
    online: Key,
    director: Key,
    approvers: Sequence[Key],
    approver_threshold: int,
    models: Sequence[str],
    now: datetime,
) -> CeremonyFile:
    """The very first repository: no release yet, and nobody has signed."""
    for model in models:
        check_model_name(model)
    online_role = Role([online.keyid], 1)
    holders = _distinct("root holders", root_keys, root_threshold)
    root = Root(
        version=1,
        expires=now + ROOT_LIFE,
        keys={key.keyid: key for key in (*root_keys, online)},
        roles={
            Root.type: Role(list(holders), root_threshold),
            Targets.type: Role(list(holders), root_threshold),
            Snapshot.type: online_role,
            Timestamp.type: Role(list(online_role.keyids), 1),
        },
        consistent_snapshot=True,
    )
    roles = {model: _delegation(model, approvers, approver_threshold) for model in models}
    roles[DIRECTOR] = DelegatedRole(DIRECTOR, [director.keyid], 1, terminating=True, paths=[])
    keys = {key.keyid: key for key in (*(approvers if models else ()), director)}
    targets = Targets(version=1, expires=now + TARGETS_LIFE, delegations=Delegations(keys, roles))
    new: dict[str, Metadata[Root] | Metadata[Targets]] = {Targets.type: Metadata(targets)}
    new |= {model: _empty(model, now) for model in models}
    new[Root.type] = Metadata(root)
    return CeremonyFile(new={role: document.to_bytes().decode() for role, document in new.items()})


class Changes:
    """Several changes of one ceremony; :meth:`finish` makes the file. What makes no sense raises CeremonyError at once."""

    def __init__(self, before: TrustSet, now: datetime) -> None:
        self._before = before
        self._after = before.copy()
        self._now = now
        self._touched: set[str] = set()

    def add_model(self, model: str, approvers: Sequence[Key], threshold: int) -> None:
        check_model_name(model)
        if model in self._after.models:
            raise CeremonyError(f"model {model} is there already")
        self._after.delegations[model] = _delegation(model, approvers, threshold)
        self._after.keys.update({key.keyid: key for key in approvers})
        self._after.models[model] = _empty(model, self._now)
        self._touched |= {Targets.type, model}

    def add_approver(self, key: Key, models: Collection[str]) -> None:
        for model in self._models(models):
            role = self._after.delegations[model]
            if key.keyid in role.keyids:
                raise CeremonyError(f"{key_name(key)} is an approver of {model} already")
            role.keyids.append(key.keyid)
        self._after.keys[key.keyid] = key
        self._touched.add(Targets.type)

    def revoke_approver(self, name: str, models: Collection[str]) -> None:
        """Of every model where that person is one, if ``models`` is empty."""
        found = False
        for model in self._models(models):
            role = self._after.delegations[model]
            gone = [keyid for keyid in role.keyids if key_name(self._after.keys[keyid]) == name]
            if not gone and models:
                raise CeremonyError(
                    f"{name} is no approver of {model}: {', '.join(self._after.holders(model).names)}"
                )
            if gone and len(role.keyids) - len(gone) < role.threshold:
                raise CeremonyError(
                    f"{model}: without {name} there would be {len(role.keyids) - len(gone)} approvers for a threshold of "
                    f"{role.threshold}; add another one first, or in the same ceremony"
                )
            role.keyids[:] = [keyid for keyid in role.keyids if keyid not in gone]
            found = found or bool(gone)
        if not found:
            raise CeremonyError(f"{name} is no approver of any model")
        self._drop_unused_keys()
        self._touched.add(Targets.type)

    def set_approver_threshold(self, threshold: int, models: Collection[str]) -> None:
        for model in self._models(models):
            role = self._after.delegations[model]
            check_threshold(f"approvers of {model}", len(role.keyids), threshold)
            role.threshold = threshold
        self._touched.add(Targets.type)

    def rotate_online(self, key: Key) -> None:
        root = self._after.root.signed
        for role in (Snapshot.type, Timestamp.type):
            for keyid in list(root.roles[role].keyids):
                root.revoke_key(keyid, role)
            root.add_key(key, role)
        self._touched.add(Root.type)

    def rotate_director(self, key: Key) -> None:
        self._after.delegations[DIRECTOR].keyids[:] = [key.keyid]
        self._after.keys[key.keyid] = key
        self._drop_unused_keys()
        self._touched.add(Targets.type)

    def change_root(
        self, *, add: Iterable[Key] = (), remove: Iterable[str] = (), threshold: int | None = None
    ) -> None:
        """Root holders come and go; they hold root and top-level targets."""
        root = self._after.root.signed
        for key in add:
            if key.keyid in root.roles[Root.type].keyids:
                raise CeremonyError(f"{key_name(key)} is a root holder already")
            for role in (Root.type, Targets.type):
                root.add_key(key, role)
        for name in remove:
            gone = [keyid for keyid in root.roles[Root.type].keyids if key_name(root.keys[keyid]) == name]
            if not gone:
                raise CeremonyError(f"{name} is no root holder: {', '.join(self._before.root_holders.names)}")
            for keyid in gone:
                for role in (Root.type, Targets.type):
                    root.revoke_key(keyid, role)
        for role in (Root.type, Targets.type):
            wanted = root.roles[role].threshold if threshold is None else threshold
            check_threshold("root holders", len(root.roles[role].keyids), wanted)
            root.roles[role].threshold = wanted
        self._touched.add(Root.type)

    def renew(self, roles: Collection[str]) -> None:
        """New versions with the same content and a whole new life."""
        unknown = sorted(set(roles) - set(self._after.roles()))
        if unknown:
            raise CeremonyError(
                f"there is no role {', '.join(unknown)}; there are {', '.join(self._after.roles())}"
            )
        self._touched |= set(roles)

    def finish(self, roots: Sequence[bytes]) -> CeremonyFile:
        """The file, unsigned; a model's role is in it where its published version would not be verifiable any more.

        Args:
            roots: every published root, from version 1 on.
        """
        after = self._after
        if Root.type in self._touched and not after.targets_holders.met(after.targets):
            self._touched.add(Targets.type)
        unverifiable = {
            model for model, document in after.models.items() if not after.holders(model).met(document)
        }
        touched = self._touched | unverifiable
        lives = {Root.type: ROOT_LIFE, Targets.type: TARGETS_LIFE}
        for role in touched:
            document = after.document(role)
            if role in self._before.roles():
                document.signed.version = self._before.document(role).signed.version + 1
            document.signed.expires = self._now + lives.get(role, ROLE_LIFE)
            document.signatures.clear()
        order = [role for role in (Targets.type, *after.models, Root.type) if role in touched]
        before: Mapping[str, Metadata[Targets]] = {Targets.type: self._before.targets, **self._before.models}
        return CeremonyFile(
            roots=tuple(root.decode() for root in roots),
            published={role: document.to_bytes().decode() for role, document in before.items()},
            new={role: after.document(role).to_bytes().decode() for role in order},
        )

    def _models(self, models: Collection[str]) -> list[str]:
        unknown = sorted(set(models) - set(self._after.models))
        if unknown:
            raise CeremonyError(
                f"there is no model {', '.join(unknown)}; there are {', '.join(self._after.models)}"
            )
        return [model for model in self._after.models if not models or model in models]

    def _drop_unused_keys(self) -> None:
        used = {keyid for role in self._after.delegations.values() for keyid in role.keyids}
        for keyid in set(self._after.keys) - used:
            del self._after.keys[keyid]


def _delegation(model: str, approvers: Sequence[Key], threshold: int) -> DelegatedRole:
    keyids = _distinct(f"approvers of {model}", approvers, threshold)
    return DelegatedRole(model, keyids, threshold, terminating=True, paths=[f"models/{model}/*/*"])


def _distinct(what: str, keys: Sequence[Key], threshold: int) -> list[str]:
    keyids = [key.keyid for key in keys]
    if len(set(keyids)) != len(keyids):
        raise CeremonyError(f"{what}: one key serves twice; everyone needs a key of their own")
    check_threshold(what, len(keyids), threshold)
    return keyids


def _empty(model: str, now: datetime) -> Metadata[Targets]:
    return Metadata(Targets(version=1, expires=now + ROLE_LIFE, unrecognized_fields={MODEL_FIELD: model}))
