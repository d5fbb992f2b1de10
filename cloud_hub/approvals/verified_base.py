"""The published role of a model, as an approver may trust it: python-tuf in a temporary folder, the trust folder around it.

python-tuf does not flush what it writes, and where a power cut left its files empty it takes an older repository. So it works
on a copy, and what was seen is kept apart, with marks, durable before anything is signed.
"""

import tempfile
from pathlib import Path
from urllib.parse import quote

import httpx
from securesystemslib.signer import Key
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig

from agent.protocol.ids import MANIFEST_FILENAME, release_path
from agent.protocol.limits import MAX_METADATA_BYTES
from cloud_hub.approvals.remote_hub import HttpFetcher
from cloud_hub.signing.errors import ApprovalError, HubAnswerError, UntrustedBaseError
from cloud_hub.signing.keys import key_name
from cloud_hub.signing.trust_folder import TrustFolder
from cloud_hub.signing.trust_set import Holders

CONFIG = UpdaterConfig(
    max_root_rotations=256, snapshot_max_length=MAX_METADATA_BYTES, targets_max_length=MAX_METADATA_BYTES
)
HISTORY = "root_history"
"""Where the updater looks for the chain of roots."""


def verified_base(http: httpx.Client, trust_dir: Path, public: Key, model: str) -> Targets:
    """The model's published role, verified from the approver's own root; the approver must be one of its keys.

    Raises:
        UntrustedBaseError: it does not verify, or is older than what this approver has seen.
        HubAnswerError: the hub can't be asked.
        TrustFolderError: ``root.json`` is missing, or the folder is damaged.
        ApprovalError: the key is not one of the model's approvers.
    """
    trust = TrustFolder(trust_dir)
    with tempfile.TemporaryDirectory(prefix="edgeward-approve-") as name:
        folder = Path(name)
        _fill(folder, trust.files)
        try:
            updater = Updater(
                name, "/v1/metadata/", fetcher=HttpFetcher(http), config=CONFIG, bootstrap=trust.bootstrap
            )
            updater.refresh()
            updater.get_targetinfo(release_path(model, 1, MANIFEST_FILENAME))
        except DownloadError as error:
            raise HubAnswerError(f"the published metadata can't be fetched: {error}") from error
        except RepositoryError as error:
            raise UntrustedBaseError(f"what the hub publishes does not verify: {error}") from error
        base = _role(updater, model)
        delegated = _remember(trust, updater, folder, model, base)
    if public.keyid not in delegated.keys:
        raise ApprovalError(f"{key_name(public)} is not one of the approvers of {model}")
    return base


def _role(updater: Updater, model: str) -> Targets:
    trusted = updater._trusted_set  # noqa: SLF001 - no public way to a delegated role; the version is pinned
    delegations = trusted.targets.delegations
    delegated = delegations.roles.get(model) if delegations and delegations.roles else None
    if delegated is None or not trusted.contains(model, Targets.type):
        raise ApprovalError(f"the repository has no model {model!r}")
    base = trusted[model]
    if not isinstance(base, Targets):
        raise UntrustedBaseError(f"{model} is {base.type} metadata, not targets")
    return base


def _remember(trust: TrustFolder, updater: Updater, folder: Path, model: str, base: Targets) -> Holders:
    """Compare with what was seen before, then keep it; the model's approvers."""
    trusted = updater._trusted_set  # noqa: SLF001 - as above
    root, targets = trusted.root, trusted.targets
    approvers = _holders(targets, model)
    seen = {role: (_holders(root, role), trusted[role].version) for role in (Root.type, *_TOP)}
    seen[model] = (approvers, base.version)
    for role, (holders, version) in seen.items():
        trust.check(role, holders, version)
    for role, (holders, version) in seen.items():
        trust.note(role, holders, version)
    trust.save(_files(folder, model, trust.bootstrap))
    return approvers


_TOP = (Timestamp.type, Snapshot.type, Targets.type)


def _holders(delegator: Root | Targets, role: str) -> Holders:
    delegated = delegator.get_delegated_role(role)
    return Holders(delegated.threshold, {keyid: delegator.get_key(keyid) for keyid in delegated.keyids})


def _fill(folder: Path, stored: dict[str, bytes]) -> None:
    (folder / HISTORY).mkdir()
    for name, data in stored.items():
        place = folder / HISTORY if name.endswith(".root.json") else folder
        (place / name).write_bytes(data)


def _files(folder: Path, model: str, bootstrap: bytes) -> dict[str, bytes]:
    first = f"{Metadata[Root].from_bytes(bootstrap).signed.version}.root.json"
    roots = {path.name: path.read_bytes() for path in (folder / HISTORY).iterdir() if path.name != first}
    names = [f"{quote(role, '')}.json" for role in (*_TOP, model)]
    return roots | {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
