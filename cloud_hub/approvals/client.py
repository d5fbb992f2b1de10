"""The approver's client. It trusts the hub with nothing: it verifies, fetches, hashes and compares for itself.

The approver's folder holds ``root.json``, handed over by the ceremony, and ``metadata/``, what was verified before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from securesystemslib.signer import Key
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, Targets
from tuf.ngclient import Updater, UpdaterConfig

from agent.protocol.errors import ProtocolError
from agent.protocol.ids import is_name, release_path
from agent.protocol.limits import MAX_METADATA_BYTES
from agent.protocol.manifest import Manifest, decode_manifest
from cloud_hub.approvals.difference import AddedPatch, Difference, check_manifest, compare, describe
from cloud_hub.approvals.patch_check import check_patches
from cloud_hub.approvals.remote_hub import TIMEOUT_SECONDS, HttpFetcher, Receipt, RemoteHub
from cloud_hub.signing.errors import ApprovalError, DraftRefusedError, HubAnswerError, UntrustedBaseError
from cloud_hub.signing.keys import key_name, load_public_key, load_signer


@dataclass(frozen=True)
class ApprovalOutcome:
    """What came of it."""

    difference: Difference
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
    release: int,
    confirm: Callable[[str], bool],
    transport: httpx.BaseTransport | None = None,
) -> ApprovalOutcome:
    """Check the open draft of ``model``, show what it changes, and sign exactly that if ``confirm`` says so.

    Args:
        hub_url: for instance ``http://127.0.0.1:8700``.
        token: bearer token with the role approver.
        trust_dir: the approver's own folder with the trusted ``root.json``.
        key_uri: ``securesystemslib`` URI of the approver's private key, opened only after the person has confirmed.
        public_key_path: its public half.
        confirm: gets the difference in plain words.
        transport: another way to the hub than the network, for an application in the same process.

    Raises:
        UntrustedBaseError: what the hub publishes does not verify from the trusted root.
        DraftRefusedError: the draft does anything else than add the named release, or bytes don't match it.
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
        base = verified_base(http, trust_dir, public, model, release)
        draft = _read_draft(hub.draft(model))
        difference = compare(base, draft.signed, model=model, release=release, now=datetime.now(UTC))
        manifest, patches = _check_artifacts(hub, difference, base)
        text = describe(difference, manifest, patches)
        if not confirm(text):
            return ApprovalOutcome(difference, text, None)
        signature = load_signer(key_uri, public).sign(draft.signed_bytes)
        receipt = hub.send_signature(model, signature.keyid, signature.signature, difference.version)
        return ApprovalOutcome(difference, text, receipt)


def verified_base(http: httpx.Client, trust_dir: Path, public: Key, model: str, release: int) -> Targets:
    """The model's published role, verified from the approver's own root; the approver must be one of its keys.

    Raises:
        UntrustedBaseError: it does not verify.
        HubAnswerError: the hub can't be asked.
        ApprovalError: ``root.json`` is missing, or the key is not one of the model's approvers.
    """
    metadata = trust_dir / "metadata"
    metadata.mkdir(parents=True, exist_ok=True)
    try:
        root = (trust_dir / "root.json").read_bytes()
    except OSError as error:
        raise ApprovalError(
            f"{trust_dir / 'root.json'}: {error.strerror}; the ceremony hands it over"
        ) from error
    try:
        updater = Updater(
            str(metadata), "/v1/metadata/", fetcher=HttpFetcher(http), config=_config(), bootstrap=root
        )
        updater.refresh()
        updater.get_targetinfo(release_path(model, release, "manifest.json"))
    except DownloadError as error:
        raise HubAnswerError(f"the published metadata can't be fetched: {error}") from error
    except RepositoryError as error:
        raise UntrustedBaseError(f"what the hub publishes does not verify: {error}") from error
    trusted = updater._trusted_set  # noqa: SLF001 - no public way to a delegated role; the version is pinned
    delegations = trusted.targets.delegations
    delegated = delegations.roles.get(model) if delegations and delegations.roles else None
    if delegated is None or not trusted.contains(model, Targets.type):
        raise ApprovalError(f"the repository has no model {model!r}")
    if public.keyid not in delegated.keyids:
        raise ApprovalError(f"{key_name(public)} is not one of the approvers of {model}")
    base = trusted[model]
    if not isinstance(base, Targets):
        raise UntrustedBaseError(f"{model} is {base.type} metadata, not targets")
    return base


def _config() -> UpdaterConfig:
    return UpdaterConfig(snapshot_max_length=MAX_METADATA_BYTES, targets_max_length=MAX_METADATA_BYTES)


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
