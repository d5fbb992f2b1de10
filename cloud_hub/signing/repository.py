"""The published TUF repository as the hub runs it: it holds the online key, and no key that approves anything."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from agent.protocol.ids import release_path
from cloud_hub.signing.documents import (
    DIRECTOR,
    MODEL_FIELD,
    ROLE_LIFE,
    SNAPSHOT_LIFE,
    read,
    stamp,
    utc_now,
)
from cloud_hub.signing.errors import (
    DraftError,
    RepositoryStateError,
    SignatureRefusedError,
    StaleDraftError,
    ThresholdNotMetError,
)
from cloud_hub.signing.keys import key_name
from cloud_hub.signing.online import meta_file, sign_snapshot, sign_timestamp
from cloud_hub.signing.store import MetadataStore


@dataclass(frozen=True)
class OfflineMetadata:
    """What a device without a network verifies from: files by name, and the first of them to expire."""

    files: dict[str, bytes]
    expires: datetime
    first: str
    """The role that expires first."""


class Repository:
    """Metadata in, metadata out. A draft is bytes that the caller keeps: the unsigned next version of a model's role."""

    def __init__(
        self, store: MetadataStore, online: Signer, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._store = store
        self._online = online
        self._now = now

    def check_key(self) -> None:
        """Raises KeyFileError: the hub lacks the online key that the root names."""
        _ = self._online.public_key

    def published(self, role: str) -> bytes:
        """The version of ``role`` that is published now.

        Raises:
            RepositoryStateError: the repository has no such role.
        """
        if role in (Root.type, Timestamp.type):
            return self._get(f"{role}.json")
        if role == Snapshot.type:
            return self._get(f"{self._timestamp().snapshot_meta.version}.snapshot.json")
        return self._get(f"{self._version(role)}.{role}.json")

    def models(self) -> tuple[str, ...]:
        """Every model that the repository delegates to approvers, in order."""
        delegations = self._targets().delegations
        roles = delegations.roles if delegations and delegations.roles else {}
        return tuple(name for name in roles if name != DIRECTOR)

    def versions(self) -> dict[str, int]:
        """Role → version published now, ``root`` and ``timestamp`` included."""
        roles = {name.removesuffix(".json"): meta.version for name, meta in self._snapshot().meta.items()}
        timestamp = self._timestamp()
        return {
            Root.type: read(self.published(Root.type), Root, "root.json").signed.version,
            Timestamp.type: timestamp.version,
            Snapshot.type: timestamp.snapshot_meta.version,
            **roles,
        }

    def targets(self, model: str) -> dict[str, tuple[int, str]]:
        """Target path → (length in bytes, SHA-256) of every file of the model's published releases."""
        return {
            path: (file.length, file.hashes.get("sha256", ""))
            for path, file in self._role(model).targets.items()
        }

    def approvers(self, model: str) -> dict[str, str]:
        """Key id → name of everyone who may sign the model's role."""
        return {keyid: key_name(self._key(keyid)) for keyid in self._delegation(model).keyids}

    def check_approval(self, model: str, keyid: str, signature: str, signed: bytes) -> str:
        """The name of the approver of ``model`` whose key has signed ``signed``; ``signature``: hexadecimal.

        Raises:
            RepositoryStateError: there is no such model.
            SignatureRefusedError: the key is not one of its approvers', or the signature does not hold.
        """
        name = self.approvers(model).get(keyid)
        if name is None:
            raise SignatureRefusedError(f"key {keyid[:8]} is not one of the approvers of {model}")
        try:
            self._key(keyid).verify_signature(Signature(keyid, signature), signed)
        except UnverifiedSignatureError as error:
            raise SignatureRefusedError(f"the signature of {name} does not hold") from error
        return name

    def threshold(self, model: str) -> int:
        """How many approvers must sign."""
        return self._delegation(model).threshold

    def signers(self, document: bytes) -> tuple[str, ...]:
        """Key ids of the model's approvers who have validly signed this draft or published role."""
        metadata = self._read_draft(document)
        valid = (
            keyid for keyid in self.approvers(self._model_of(metadata)) if self._signed_by(metadata, keyid)
        )
        return tuple(valid)

    def make_draft(
        self, model: str, targets: Mapping[str, tuple[int, str]], expires: datetime | None = None
    ) -> bytes:
        """The unsigned next version of the model's role: what is published, and ``targets`` beside it.

        Args:
            targets: path → (length in bytes, SHA-256 in hex); empty to renew the role before it expires.
            expires: UTC, at most 90 days ahead; None takes all of them.

        Raises:
            DraftError: a path is taken, or not this model's, or the role would live too long.
        """
        base = self._role(model)
        patterns = self._delegation(model).paths or []
        for path in targets:
            if path in base.targets:
                raise DraftError(f"{path}: published already; a release never changes, number a new one")
            if not any(_matches(path, pattern) for pattern in patterns):
                raise DraftError(f"{path}: not a path of {model}; allowed are {', '.join(patterns)}")
        added = {
            path: TargetFile(length, {"sha256": digest}, path) for path, (length, digest) in targets.items()
        }
        return self._next(model, {**base.targets, **added}, expires)

    def make_withdrawal(self, model: str, release: int, expires: datetime | None = None) -> bytes:
        """The unsigned next version of the model's role, without one of its releases.

        Args:
            expires: as of :meth:`make_draft`.

        Raises:
            DraftError: the release is not published, or the role would live too long.
        """
        base, prefix = self._role(model), release_path(model, release, "")
        kept = {path: target for path, target in base.targets.items() if not path.startswith(prefix)}
        if len(kept) == len(base.targets):
            raise DraftError(f"{model} {release} is not published, so it can't be withdrawn")
        return self._next(model, kept, expires)

    def _next(self, model: str, targets: dict[str, TargetFile], expires: datetime | None) -> bytes:
        now = self._now()
        expires = now + ROLE_LIFE if expires is None else expires
        if not now < expires <= now + ROLE_LIFE:
            raise DraftError(
                f"{model}: expires {stamp(expires)}; allowed is within {ROLE_LIFE.days} days from now"
            )
        draft = Targets(
            version=self._version(model) + 1,
            expires=expires,
            targets=targets,
            unrecognized_fields={MODEL_FIELD: model},
        )
        return Metadata(draft).to_bytes()

    def add_signature(self, draft: bytes, signature: Signature) -> bytes:
        """The draft with one more signature.

        Raises:
            StaleDraftError: another version has been published since the draft was made.
            SignatureRefusedError: not by an approver of this model, or not over exactly this draft.
        """
        metadata = self._read_draft(draft)
        model = self._model_of(metadata)
        self._check_base(model, metadata.signed)
        if signature.keyid not in self.approvers(model):
            raise SignatureRefusedError(f"{model}: key {signature.keyid[:8]}… is not one of its approvers")
        metadata.signatures[signature.keyid] = signature
        if not self._signed_by(metadata, signature.keyid):
            name = self.approvers(model)[signature.keyid]
            raise SignatureRefusedError(f"{model}: the signature of {name} is not over this draft")
        return metadata.to_bytes()

    def threshold_met(self, draft: bytes) -> bool:
        """Whether enough approvers have validly signed."""
        return len(self.signers(draft)) >= self.threshold(self._model_of(self._read_draft(draft)))

    def publish(self, model: str, draft: bytes) -> None:
        """Make the draft the published version of the model's role, by a new snapshot and timestamp.

        Raises:
            StaleDraftError: another version has been published since the draft was made.
            ThresholdNotMetError: too few approvers have signed.
            DraftError: it is another model's, or has expired.
        """
        metadata = self._read_draft(draft)
        if self._model_of(metadata) != model:
            raise DraftError(f"the draft is of {self._model_of(metadata)}, not of {model}")
        if metadata.signed.is_expired(self._now()):
            raise DraftError(f"{model}: the draft expired at {stamp(metadata.signed.expires)}")
        with self._store.exclusive():  # a ceremony may change base and approvers meanwhile
            self._check_base(model, metadata.signed)
            if not self.threshold_met(draft):
                raise ThresholdNotMetError(
                    f"{model}: {len(self.signers(draft))} of {self.threshold(model)} approvers have signed"
                )
            self.publish_role(model, metadata.signed.version, draft)

    def publish_role(self, role: str, version: int, data: bytes) -> None:
        """List ``data`` as version ``version`` of ``role``. It checks nothing: devices do, and refuse what is not signed."""
        with self._store.exclusive():
            snapshot = self._snapshot()
            meta = {**snapshot.meta, f"{role}.json": meta_file(version, data)}
            self._put({f"{version}.{role}.json": data}, snapshot.version + 1, meta)

    def refresh_timestamp(self) -> None:
        """Sign a new timestamp, to be called well within its life of a day, and a snapshot when half its life is over."""
        with self._store.exclusive():
            snapshot = self._snapshot()
            if snapshot.expires - self._now() < SNAPSHOT_LIFE / 2:
                self.sign_anew()
                return
            version = self._timestamp().version + 1
            current = self.published(Snapshot.type)
            self._store.put_all(sign_timestamp(self._online, version, snapshot.version, current, self._now()))

    def sign_anew(self) -> None:
        """Sign snapshot and timestamp again, both as new versions: after the online key was rotated in the root."""
        with self._store.exclusive():
            snapshot = self._snapshot()
            self._put({}, snapshot.version + 1, snapshot.meta)

    def export(self, models: Iterable[str], life: timedelta) -> OfflineMetadata:
        """Everything that verifies the published releases of ``models``, with a snapshot and a timestamp that live ``life``.

        Other models' roles come along, because a device may run what is not ordered any more and was withdrawn since; when
        they expire does not matter. Snapshot and timestamp take the next versions, and the ones after them are published at
        once: a device that took the export goes on online, no two documents share a version, and nobody online is served a
        timestamp of so long a life.
        """
        with self._store.exclusive():
            return self._export(models, life)

    def _export(self, models: Iterable[str], life: timedelta) -> OfflineMetadata:
        now = self._now()
        meta = self._snapshot().meta
        version, timestamp_version = self._snapshot().version + 1, self._timestamp().version + 1
        snapshot = sign_snapshot(self._online, version, meta, now, life)
        (data,) = snapshot.values()
        timestamp = sign_timestamp(self._online, timestamp_version, version, data, now, life)
        self._put({}, version + 1, meta, timestamp_version + 1)
        newest = read(self.published(Root.type), Root, "root.json").signed
        files = {f"{old}.root.json": self._get(f"{old}.root.json") for old in range(1, newest.version + 1)}
        ends = {"root": newest.expires, "timestamp": now + life}
        needed = {Targets.type, *models}
        for name in (Targets.type, *self.models()):
            role = self.published(name)
            signed = read(role, Targets, f"{name}.json").signed
            files[f"{signed.version}.{name}.json"] = role
            if name in needed:
                ends[name] = signed.expires
        first = min(ends, key=lambda name: ends[name])
        return OfflineMetadata({**files, **snapshot, **timestamp}, ends[first], first)

    def _put(
        self,
        files: dict[str, bytes],
        snapshot_version: int,
        meta: dict[str, MetaFile],
        timestamp_version: int | None = None,
    ) -> None:
        now = self._now()
        snapshot = sign_snapshot(self._online, snapshot_version, meta, now)
        (data,) = snapshot.values()
        version = timestamp_version or self._timestamp().version + 1
        timestamp = sign_timestamp(self._online, version, snapshot_version, data, now)
        self._store.put_all({**files, **snapshot, **timestamp})

    def _get(self, name: str) -> bytes:
        data = self._store.get(name)
        if data is None:
            raise RepositoryStateError(f"the repository has no {name}")
        return data

    def _timestamp(self) -> Timestamp:
        return read(self._get("timestamp.json"), Timestamp, "timestamp.json").signed

    def _snapshot(self) -> Snapshot:
        return read(self.published(Snapshot.type), Snapshot, "snapshot.json").signed

    def _targets(self) -> Targets:
        return read(self.published(Targets.type), Targets, "targets.json").signed

    def _version(self, role: str) -> int:
        meta = self._snapshot().meta.get(f"{role}.json")
        if meta is None:
            raise RepositoryStateError(f"the repository has no role {role!r}")
        return meta.version

    def _role(self, model: str) -> Targets:
        return read(self.published(model), Targets, f"{model}.json").signed

    def _delegation(self, model: str) -> DelegatedRole:
        delegations = self._targets().delegations
        role = delegations.roles.get(model) if delegations and delegations.roles else None
        if role is None or model == DIRECTOR:
            raise RepositoryStateError(f"the repository has no model {model!r}")
        return role

    def _key(self, keyid: str) -> Key:
        return self._targets().get_key(keyid)

    def _signed_by(self, metadata: Metadata[Targets], keyid: str) -> bool:
        signature = metadata.signatures.get(keyid)
        if signature is None:
            return False
        try:
            self._key(keyid).verify_signature(signature, metadata.signed_bytes)
        except UnverifiedSignatureError:
            return False
        return True

    def _check_base(self, model: str, draft: Targets) -> None:
        published = self._version(model)
        if draft.version != published + 1:
            raise StaleDraftError(
                f"{model}: the draft is version {draft.version}, but {published} is published; draft and sign again"
            )

    def _read_draft(self, draft: bytes) -> Metadata[Targets]:
        return read(draft, Targets, "draft")

    def _model_of(self, metadata: Metadata[Targets]) -> str:
        model = metadata.signed.unrecognized_fields.get(MODEL_FIELD)
        if not isinstance(model, str):
            raise DraftError("the draft does not name its model")
        return model


def _matches(path: str, pattern: str) -> bool:
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))
