"""Root, top-level targets and every model's role as one thing: who may sign what, and whether it is as it must be (pure)."""

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Metadata, Role, Root, Snapshot, Targets, Timestamp

from agent.protocol.ids import is_name
from cloud_hub.signing.documents import DIRECTOR, MODEL_FIELD, read
from cloud_hub.signing.errors import CeremonyError, RepositoryStateError
from cloud_hub.signing.keys import key_name

RESERVED = frozenset({Root.type, Timestamp.type, Snapshot.type, Targets.type, DIRECTOR})
"""Names of roles that no model can have."""


@dataclass(frozen=True)
class Holders:
    """At least ``threshold`` of these keys sign."""

    threshold: int
    keys: dict[str, Key]
    """By key id."""

    @property
    def names(self) -> list[str]:
        return [key_name(key) for key in self.keys.values()]

    def signed(self, document: "Metadata[Root] | Metadata[Targets]") -> list[str]:
        """Key ids of those who have validly signed."""
        return [keyid for keyid in self.keys if self._valid(document, keyid)]

    def met(self, document: "Metadata[Root] | Metadata[Targets]") -> bool:
        return len(self.signed(document)) >= self.threshold

    def _valid(self, document: "Metadata[Root] | Metadata[Targets]", keyid: str) -> bool:
        signature = document.signatures.get(keyid)
        if signature is None:
            return False
        try:
            self.keys[keyid].verify_signature(signature, document.signed_bytes)
        except UnverifiedSignatureError:
            return False
        return True


@dataclass(frozen=True)
class TrustSet:
    """One state of the offline half of the repository."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    models: dict[str, Metadata[Targets]]

    def copy(self) -> "TrustSet":
        """One that may be changed."""
        return deepcopy(self)

    @property
    def root_holders(self) -> Holders:
        return self._of_root(Root.type)

    @property
    def targets_holders(self) -> Holders:
        return self._of_root(Targets.type)

    @property
    def online(self) -> Holders:
        return self._of_root(Timestamp.type)

    @property
    def director(self) -> Holders:
        return self.holders(DIRECTOR)

    def holders(self, delegated: str) -> Holders:
        """Of a model's role, or of the director."""
        role, keys = self.delegations[delegated], self.keys
        return Holders(role.threshold, {keyid: keys[keyid] for keyid in role.keyids})

    @property
    def delegations(self) -> dict[str, DelegatedRole]:
        """Models and the director."""
        delegations = self.targets.signed.delegations
        if delegations is None or delegations.roles is None:
            raise CeremonyError("the top-level targets delegate nothing")
        return delegations.roles

    @property
    def keys(self) -> dict[str, Key]:
        delegations = self.targets.signed.delegations
        return {} if delegations is None else delegations.keys

    def document(self, role: str) -> Metadata[Root] | Metadata[Targets]:
        if role == Root.type:
            return self.root
        return self.targets if role == Targets.type else self.models[role]

    def roles(self) -> tuple[str, ...]:
        """Every role that is signed offline, in the order of their documents."""
        return (Root.type, Targets.type, *self.models)

    def _of_root(self, name: str) -> Holders:
        root = self.root.signed
        role = root.roles[name]
        return Holders(role.threshold, {keyid: root.keys[keyid] for keyid in role.keyids})


def parse(documents: Mapping[str, bytes]) -> TrustSet:
    """From documents by role; signatures are not checked here.

    Raises:
        CeremonyError: one is missing, or can't be read.
    """
    try:
        models = sorted(documents.keys() - {Root.type, Targets.type})
        return TrustSet(
            read(documents[Root.type], Root, Root.type),
            read(documents[Targets.type], Targets, Targets.type),
            {model: read(documents[model], Targets, model) for model in models},
        )
    except KeyError as error:
        raise CeremonyError(f"there is no {error.args[0]} document") from error
    except RepositoryStateError as error:
        raise CeremonyError(str(error)) from error


def check_form(trust: TrustSet) -> None:
    """Check that it is what Edgeward's ceremonies make and nothing else, so that words can tell the whole of it.

    Raises:
        CeremonyError: anything is otherwise, or does not fit together.
    """
    _check_root(trust.root.signed)
    _check_targets(trust)
    for name, holders in _every_holders(trust).items():
        _check_holders(name, holders)
    _check_duties(trust)
    for model, document in trust.models.items():
        if document.signed.delegations is not None or document.signed.unrecognized_fields != {
            MODEL_FIELD: model
        }:
            raise CeremonyError(f"{model}: its document has fields that a model's role may not have")


def _every_holders(trust: TrustSet) -> dict[str, Holders]:
    return {
        "root holders": trust.root_holders,
        **{f"approvers of {model}": trust.holders(model) for model in trust.models},
        "the director": trust.director,
        "the online key": trust.online,
    }


def _check_root(root: Root) -> None:
    roles = root.roles
    holders, online = roles[Root.type], roles[Timestamp.type]
    _require(root.consistent_snapshot is True, "root: consistent snapshots must be on")
    _require(not root.unrecognized_fields, "root: it has fields that it may not have")
    _require(
        _same(holders, roles[Targets.type]),
        "root: the same people hold root and top-level targets, no others",
    )
    _require(_same(online, roles[Snapshot.type]), "root: one online key signs snapshot and timestamp")
    _require(online.threshold == 1 and len(online.keyids) == 1, "root: there is exactly one online key")
    _require(
        set(root.keys) == {*holders.keyids, *online.keyids}, "root: it lists a key that serves for nothing"
    )


def _check_targets(trust: TrustSet) -> None:
    targets, delegations = trust.targets.signed, trust.delegations
    _require(
        not targets.targets and not targets.unrecognized_fields, "targets: it may only delegate, nothing else"
    )
    _require(DIRECTOR in delegations, "targets: it delegates no director")
    director = delegations[DIRECTOR]
    _require(
        (director.threshold, len(director.keyids), director.paths, director.terminating) == (1, 1, [], True),
        "targets: the director has exactly one key and no paths",
    )
    _require(
        set(delegations) - {DIRECTOR} == set(trust.models),
        "targets: the models that are delegated are not the ones that have a document",
    )
    for model in trust.models:
        check_model_name(model)
        role = delegations[model]
        _require(
            role.paths == [f"models/{model}/*/*"] and role.terminating and not role.unrecognized_fields,
            f"targets: {model} must be a terminating delegation of models/{model}/*/* alone",
        )
    used = {keyid for role in delegations.values() for keyid in role.keyids}
    _require(used == set(trust.keys), "targets: it lists a key that serves for nothing, or lacks one")


def _check_holders(what: str, holders: Holders) -> None:
    check_threshold(what, len(holders.keys), holders.threshold)
    names = holders.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CeremonyError(
            f"{what}: two keys are named {', '.join(twice)}; give each person a name of their own"
        )


def _check_duties(trust: TrustSet) -> None:
    approvers = {keyid for model in trust.models for keyid in trust.holders(model).keys}
    duties: tuple[Collection[str], ...] = (
        trust.root_holders.keys, trust.online.keys, trust.director.keys, approvers,
    )  # fmt: skip
    if sum(map(len, duties)) != len(set().union(*duties)):
        raise CeremonyError("one key serves twice; every holder, approver and service needs a key of its own")


def check_model_name(model: str) -> None:
    """Raises CeremonyError: not a name, or a role's."""
    if not is_name(model) or model in RESERVED:
        raise CeremonyError(f"model {model!r}: not a name, or one of {', '.join(sorted(RESERVED))}")


def check_threshold(what: str, count: int, threshold: int) -> None:
    """Raises CeremonyError: so many signatures can't be had of so many keys, or none is asked for."""
    if threshold < 1 or count < threshold:
        raise CeremonyError(
            f"{what}: {count} given, a threshold of {threshold} needs at least as many, and at least 1"
        )


def check_lives(trust: TrustSet, roles: Collection[str], longest: Callable[[str], datetime]) -> None:
    """Check that none of ``roles`` lives longer than it may.

    Raises:
        CeremonyError: one does.
    """
    for role in roles:
        expires = trust.document(role).signed.expires
        if expires > longest(role):
            raise CeremonyError(
                f"{role}: it would live until {expires:%Y-%m-%d}, {longest(role):%Y-%m-%d} at most"
            )


def _same(one: Role, other: Role) -> bool:
    return (one.threshold, sorted(one.keyids)) == (other.threshold, sorted(other.keyids))


def _require(holds: bool, text: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise CeremonyError(text)
