"""The file that travels from holder to holder: what is published, what is to be, and the signatures so far (pure)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

import msgspec
from msgspec import Struct
from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from cloud_hub.signing.documents import ROLE_LIFE, ROOT_LIFE, TARGETS_LIFE, read, utc_now
from cloud_hub.signing.errors import CeremonyError, RepositoryStateError
from cloud_hub.signing.keys import key_name
from cloud_hub.signing.trust_set import Holders, TrustSet, check_form, check_lives, parse

FORMAT: Literal["edgeward-ceremony-1"] = "edgeward-ceremony-1"
CLOCKS_APART = timedelta(days=1)
"""A holder's clock may be behind the hub's, where the file was made a moment ago."""
MAX_FILE_BYTES = 16 * 1024 * 1024
"""Roots of many years and the roles of many models; more is nothing that we wrote."""


class CeremonyFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ceremony under way. Whoever signs checks all of it anew: it may have passed through a stolen hub."""

    format: Literal["edgeward-ceremony-1"] = FORMAT
    roots: tuple[str, ...] = ()
    """Every root that was published, from version 1 on; none in the very first ceremony."""
    published: dict[str, str] = {}
    """Targets and each model's role, as they are published."""
    new: dict[str, str]
    """Role → its next version, with the signatures so far, in the order of publication but for root, which comes last."""


@dataclass(frozen=True)
class Duty:
    """Signatures that one new document needs."""

    role: str
    who: str
    holders: Holders
    signed: tuple[str, ...]
    """Key ids."""

    @property
    def missing(self) -> int:
        return max(0, self.holders.threshold - len(self.signed))

    @property
    def open_names(self) -> list[str]:
        """Who could still sign."""
        return [key_name(key) for keyid, key in self.holders.keys.items() if keyid not in self.signed]


@dataclass(frozen=True)
class Ceremony:
    """A file that was read and checked; only :func:`examine` makes one."""

    file: CeremonyFile
    before: TrustSet | None
    """None in the very first ceremony."""
    after: TrustSet

    @property
    def duties(self) -> tuple[Duty, ...]:
        found = []
        for role in self.file.new:
            document = self.after.document(role)
            for who, holders in _needed(role, self.before, self.after).items():
                found.append(Duty(role, who, holders, tuple(holders.signed(document))))
        return tuple(found)

    @property
    def complete(self) -> bool:
        return not any(duty.missing for duty in self.duties)


def encode(file: CeremonyFile) -> bytes:
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


def decode(data: bytes) -> CeremonyFile:
    """Raises CeremonyError: it is no ceremony file."""
    if len(data) > MAX_FILE_BYTES:
        raise CeremonyError(f"the ceremony file has {len(data)} bytes, at most {MAX_FILE_BYTES} are allowed")
    try:
        return msgspec.json.decode(data, type=CeremonyFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CeremonyError(f"this is no ceremony file: {error}") from error


def examine(file: CeremonyFile, now: datetime | None = None) -> Ceremony:
    """Check that the published half holds together by its signatures, and that the new half is a ceremony's and no more.

    Whether the first root is the right one, only its reader knows (:class:`cloud_hub.signing.trust_folder.TrustFolder`).

    Raises:
        CeremonyError: it does not.
    """
    now = now or utc_now()
    before = _published(file)
    documents = dict(file.published) | dict(file.new)
    if file.roots and Root.type not in file.new:
        documents[Root.type] = file.roots[-1]
    after = parse({role: text.encode() for role, text in documents.items()})
    check_form(after)
    longest = {Root.type: ROOT_LIFE, Targets.type: TARGETS_LIFE}
    check_lives(after, file.new, lambda role: now + longest.get(role, ROLE_LIFE) + CLOCKS_APART)
    if not file.new:
        raise CeremonyError("nothing would change")
    for role in file.new:
        _check_step(role, before, after)
    _check_verifiable(file, after)
    return Ceremony(file, before, after)


def sign(ceremony: Ceremony, signer: Signer) -> CeremonyFile:
    """The file with this holder's signature on every document that needs it.

    Raises:
        CeremonyError: none does.
    """
    keyid = signer.public_key.keyid
    roles = {duty.role for duty in ceremony.duties if keyid in duty.holders.keys}
    if not roles:
        raise CeremonyError(
            f"{key_name(signer.public_key)} ({keyid[:16]}…) has nothing to sign in this ceremony"
        )
    new = dict(ceremony.file.new)
    for role in roles:
        document = ceremony.after.document(role)
        document.sign(signer, append=True)
        new[role] = document.to_bytes().decode()
    return msgspec.structs.replace(ceremony.file, new=new)


def _published(file: CeremonyFile) -> TrustSet | None:
    if not file.roots:
        if file.published:
            raise CeremonyError("the file lacks the published roots")
        return None
    try:
        roots = [read(text.encode(), Root, Root.type) for text in file.roots]
    except RepositoryStateError as error:
        raise CeremonyError(str(error)) from error
    for older, newer in pairwise(roots):
        check_next_root(older, newer)
    before = parse(
        {Root.type: file.roots[-1].encode(), **{role: text.encode() for role, text in file.published.items()}}
    )
    check_form(before)
    for role in (Targets.type, *before.models):
        holders = before.targets_holders if role == Targets.type else before.holders(role)
        if not holders.met(before.document(role)):
            raise CeremonyError(f"what is called the published {role} is not signed by those who may")
    return before


def check_next_root(older: Metadata[Root], newer: Metadata[Root]) -> None:
    """Check one step in the chain of roots: the next version, signed by the older one's holders and its own.

    Raises:
        CeremonyError: it is not.
    """
    if newer.signed.version != older.signed.version + 1:
        raise CeremonyError(f"root {newer.signed.version} does not follow root {older.signed.version}")
    for root in (older, newer):
        try:
            root.signed.verify_delegate(Root.type, newer.signed_bytes, newer.signatures)
        except RepositoryError as error:
            raise CeremonyError(f"root {newer.signed.version}: {error}") from error


def _needed(role: str, before: TrustSet | None, after: TrustSet) -> dict[str, Holders]:
    """Who must sign, in words. What the old and the new root both name is asked for once."""
    if role not in (Root.type, Targets.type):
        return {f"approvers of {role}": after.holders(role)}
    found = {"the holders": after.root_holders}
    if before is not None and not _equal(before.root_holders, after.root_holders):
        found = {"the holders until now": before.root_holders, "the holders from now on": after.root_holders}
    return found


def _equal(one: Holders, other: Holders) -> bool:
    return (one.threshold, set(one.keys)) == (other.threshold, set(other.keys))


def _check_step(role: str, before: TrustSet | None, after: TrustSet) -> None:
    """A new document is the next version, and no ceremony adds or removes a release."""
    known = before is not None and role in before.roles()
    version = before.document(role).signed.version if before is not None and known else 0
    if after.document(role).signed.version != version + 1:
        raise CeremonyError(
            f"{role}: version {after.document(role).signed.version} does not follow {version}"
        )
    if role in (Root.type, Targets.type):
        return
    old = before.models[role].signed.targets if before is not None and known else {}
    if after.models[role].signed.targets != old:
        raise CeremonyError(
            f"{role}: a ceremony never changes which releases are approved, and this file does"
        )


def _check_verifiable(file: CeremonyFile, after: TrustSet) -> None:
    """What stays as it is must be signed by enough of those who count from now on."""
    if (
        Root.type in file.new
        and Targets.type not in file.new
        and not after.targets_holders.met(after.targets)
    ):
        raise CeremonyError("targets would not be verifiable any more: it must be signed anew")
    for model, document in after.models.items():
        if model not in file.new and not after.holders(model).met(document):
            raise CeremonyError(
                f"{model} would not be verifiable any more: its approvers must sign it anew first"
            )
