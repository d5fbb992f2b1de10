"""Documents that no honest hub makes, signed with whichever keys a test has stolen."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from cloud_hub.signing.online import meta_file
from tests.fault.attacks.hostile_hub import HostileHub


def director(
    hub: HostileHub,
    honest: bytes,
    change: Callable[[Targets], None],
    *signers: CryptoSigner,
) -> bytes:
    """A director's document with any content, signed by the director (or by others)."""
    document = Metadata[Targets].from_bytes(honest)
    change(document.signed)
    document.signatures.clear()
    for signer in signers or (hub.keys.director,):
        document.sign(signer, append=True)
    return document.to_bytes()


def publish_targets(
    hub: HostileHub, change: Callable[[Targets], None], signers: Iterable[CryptoSigner] | None = None
) -> None:
    """The next version of the top-level targets with any change, signed by the offline holders (or by others)."""
    document = Metadata[Targets].from_bytes(hub.repository.published("targets"))
    change(document.signed)
    document.signed.version += 1
    document.signatures.clear()
    for signer in hub.keys.offline if signers is None else signers:
        document.sign(signer, append=True)
    hub.repository.publish_role("targets", document.signed.version, document.to_bytes())


def publish_root(
    hub: HostileHub, change: Callable[[Root], None], signers: Iterable[CryptoSigner] | None = None
) -> str:
    """The next version of the root; returns its file name."""
    document = Metadata[Root].from_bytes(hub.store.files["root.json"])
    change(document.signed)
    document.signed.version += 1
    document.signatures.clear()
    for signer in hub.keys.offline if signers is None else signers:
        document.sign(signer, append=True)
    name, data = f"{document.signed.version}.root.json", document.to_bytes()
    hub.store.put_all({name: data, "root.json": data})
    return name


def publish_snapshot(hub: HostileHub, change: Callable[[Snapshot], None]) -> None:
    """The next version of the snapshot with any change, by a stolen online key; and a timestamp for it."""
    document = Metadata[Snapshot].from_bytes(hub.repository.published("snapshot"))
    change(document.signed)
    document.signed.version += 1
    document.sign(hub.keys.online)
    data = document.to_bytes()
    hub.store.put_all({f"{document.signed.version}.snapshot.json": data})
    publish_timestamp(
        hub, lambda signed: setattr(signed, "snapshot_meta", meta_file(document.signed.version, data))
    )


def publish_timestamp(hub: HostileHub, change: Callable[[Timestamp], None]) -> None:
    """The next version of the timestamp with any change, by a stolen online key."""
    document = Metadata[Timestamp].from_bytes(hub.store.files["timestamp.json"])
    document.signed.version += 1
    change(document.signed)
    document.sign(hub.keys.online)
    hub.store.put_all({"timestamp.json": document.to_bytes()})


def list_role(
    hub: HostileHub, change: Callable[[Targets], None], *approvers: str, model: str = "digits"
) -> None:
    """The next version of a model's role with any change, signed by these approvers and listed by the hub."""
    role = hub.published_role(model)
    role.version += 1
    role.expires = (hub.now + timedelta(days=30)).replace(microsecond=0)
    change(role)
    hub.list_unchecked(model, hub.sign_role(role, *approvers))


def target(path: str, length: int, sha256: str, custom: object = None) -> TargetFile:
    """One entry of a targets document."""
    return TargetFile(length, {"sha256": sha256}, path, None if custom is None else {"custom": custom})


def yesterday() -> datetime:
    return (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)


def relist(hub: HostileHub, honest: bytes) -> None:
    """The approvers' last word, as a version that is newer than what was listed without them."""
    role = Metadata[Targets].from_bytes(honest).signed
    role.version = hub.repository.versions()["digits"] + 1
    hub.list_unchecked("digits", hub.sign_role(role, "ada", "ben"))
