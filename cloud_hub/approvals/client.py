"""The approver's client. It trusts the hub with nothing: it verifies, fetches, hashes and compares for itself.

The approver's folder (:mod:`cloud_hub.signing.trust_folder`) holds ``root.json``, handed over by the ceremony, and what was
verified before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets

from agent.protocol.errors import ProtocolError
from agent.protocol.ids import is_name
from agent.protocol.manifest import Manifest, decode_manifest
from cloud_hub.approvals.difference import AddedPatch, Difference, check_manifest, compare, describe
from cloud_hub.approvals.patch_check import check_patches
from cloud_hub.approvals.remote_hub import TIMEOUT_SECONDS, Receipt, RemoteHub
from cloud_hub.approvals.removal import Removal, compare_removal, describe_removal
from cloud_hub.approvals.verified_base import verified_base
from cloud_hub.signing.errors import ApprovalError, DraftRefusedError
from cloud_hub.signing.keys import load_public_key, load_signer


@dataclass(frozen=True)
class ApprovalOutcome:
    """What came of it."""

    difference: Difference | Removal
    text: str
    """The difference as it was shown."""
    receipt: Receipt | None
    """The hub's answer to the signature; None: the person did not confirm, and nothing was signed."""


def approve(
    *,
    hub_url: str,
    token: str,
    trust_dir: Path,
    key_uri: str,
    public_key_path: Path,
    model: str,
    release: int | None,
    confirm: Callable[[str], bool],
    withdraw: bool = False,
    transport: httpx.BaseTransport | None = None,
) -> ApprovalOutcome:
    """Check the open draft of ``model``, show what it changes, and sign exactly that if ``confirm`` says so.

    Args:
        hub_url: for instance ``http://127.0.0.1:8700``.
        token: bearer token with the role approver.
        trust_dir: the approver's own folder with the trusted ``root.json``.
        key_uri: ``securesystemslib`` URI of the approver's private key, opened only after the person has confirmed.
        public_key_path: its public half.
        release: the one that the draft is to add, or to take out; None: the draft is to renew the role and no more.
        confirm: gets the difference in plain words.
        withdraw: the draft is to take ``release`` out; it is opened where none is.
        transport: another way to the hub than the network, for an application in the same process.

    Raises:
        UntrustedBaseError: what the hub publishes does not verify from the trusted root.
        DraftRefusedError: the draft does anything else than what is asked for here, or bytes don't match it.
        HubAnswerError: the hub can't be reached, or says no.
        KeyFileError: the key can't be read.
        ApprovalError: the key is not one of the model's approvers, or ``root.json`` is missing.
    """
    if not is_name(model):
        raise ApprovalError(f"model {model!r}: not a name")
    public = load_public_key(public_key_path)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(
        base_url=hub_url,
        headers=headers,
        timeout=TIMEOUT_SECONDS,
        transport=transport,
        follow_redirects=False,
    ) as http:
        hub = RemoteHub(http)
        base = verified_base(http, trust_dir, public, model)
        if release is None or withdraw:
            hub.propose_removal(model, release)
        draft = _read_draft(hub.draft(model))
        difference, text = _difference(hub, base, draft.signed, model, release, withdraw=withdraw)
        if not confirm(text):
            return ApprovalOutcome(difference, text, None)
        signature = load_signer(key_uri, public).sign(draft.signed_bytes)
        receipt = hub.send_signature(model, signature.keyid, signature.signature, difference.version)
        return ApprovalOutcome(difference, text, receipt)


def _difference(
    hub: RemoteHub, base: Targets, draft: Targets, model: str, release: int | None, *, withdraw: bool
) -> tuple[Difference | Removal, str]:
    now = datetime.now(UTC)
    if release is None or withdraw:
        removal = compare_removal(base, draft, model=model, release=release, now=now)
        return removal, describe_removal(removal)
    difference = compare(base, draft, model=model, release=release, now=now)
    manifest, patches = _check_artifacts(hub, difference, base)
    return difference, describe(difference, manifest, patches)


def _read_draft(data: bytes) -> Metadata[Targets]:
    try:
        draft = Metadata[Targets].from_bytes(data)
        _ = draft.signed_bytes
    except RepositoryError as error:
        raise DraftRefusedError(f"the draft can't be read: {error}") from error
    if not isinstance(draft.signed, Targets):
        raise DraftRefusedError(f"the draft is {draft.signed.type} metadata, not targets")
    return draft


def _check_artifacts(
    hub: RemoteHub, difference: Difference, base: Targets
) -> tuple[Manifest, tuple[AddedPatch, ...]]:
    try:
        manifest = decode_manifest(hub.manifest(difference.manifest))
    except ProtocolError as error:
        raise DraftRefusedError(f"the manifest can't be taken: {error}") from error
    patches = check_manifest(difference, manifest, base)
    ways = {patch.file for patch in patches}
    for file in difference.files:
        if file not in ways:
            hub.check_artifact(file)
    check_patches(hub, patches)
    return manifest, patches
