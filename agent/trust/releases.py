"""What approvers signed, compared with what the director orders (pure)."""

import re

from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from agent.protocol.ids import DIGEST_PATTERN, LARGEST_NUMBER, MANIFEST_FILENAME, release_path
from agent.protocol.verification import UNKNOWN_MODEL, ReleaseFile, VerifiedAssignment
from agent.trust.director import Order
from agent.trust.errors import MALFORMED, NOT_APPROVED, RefusedError

MODEL_FIELD = "model"
FILENAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""As :data:`agent.protocol.manifest.Filename`."""

_FILENAME = re.compile(FILENAME_PATTERN)
_DIGEST = re.compile(DIGEST_PATTERN)


def delegation(targets: Targets, model: str) -> DelegatedRole:
    """The role to which verified top-level targets delegate ``model``.

    Raises:
        RefusedError: ``unknown-model``: nobody may approve releases of it.
    """
    roles = targets.delegations.roles if targets.delegations else None
    role = roles.get(model) if roles else None
    if role is None or not role.paths:
        raise RefusedError(UNKNOWN_MODEL, f"{model}: the repository has no such model")
    return role


def check_order(order: Order, role: Targets, delegated: DelegatedRole) -> VerifiedAssignment:
    """Match one order with the model's verified role.

    Raises:
        RefusedError: ``not-approved``: the role is another model's, lacks the release, or lists another manifest;
            ``malformed``: a file of the release has a name, length or hash that is not allowed.
    """
    named = role.unrecognized_fields.get(MODEL_FIELD)
    if named != order.model:
        raise RefusedError(NOT_APPROVED, f"{order.model}: the approvers signed this role for {named!r}")
    prefix = release_path(order.model, order.release, "")
    files = tuple(
        _file(path, target, prefix)
        for path, target in sorted(role.targets.items())
        if path.startswith(prefix) and delegated.is_delegated_path(path)
    )
    signed = {file.filename: file for file in files}.get(order.manifest.filename)
    if signed is None:
        raise RefusedError(
            NOT_APPROVED,
            f"{order.model} release {order.release}: no approver has signed it, or it was withdrawn",
        )
    if signed != order.manifest:
        raise RefusedError(
            NOT_APPROVED,
            f"{order.model} release {order.release}: the director names another manifest than the approvers signed",
        )
    return VerifiedAssignment(
        model=order.model,
        release=order.release,
        assignment=order.assignment,
        manifest=signed,
        files=files,
    )


def lists(role: Targets, model: str, release: int) -> bool:
    """Whether the approvers still list a release; a role that they signed for another model says nothing, so it does not end one."""
    if role.unrecognized_fields.get(MODEL_FIELD) != model:
        return True
    return release_path(model, release, MANIFEST_FILENAME) in role.targets


def _file(path: str, target: TargetFile, prefix: str) -> ReleaseFile:
    filename = path.removeprefix(prefix)
    if not _FILENAME.fullmatch(filename):
        raise RefusedError(MALFORMED, f"target {path!r}: {filename!r} is not a file name")
    digest = target.hashes.get("sha256")
    if (
        set(target.hashes) != {"sha256"}
        or digest is None
        or not _DIGEST.fullmatch(digest)
        or not 1 <= target.length <= LARGEST_NUMBER
    ):
        raise RefusedError(
            MALFORMED, f"target {path}: it must have 1-{LARGEST_NUMBER} bytes and exactly a SHA-256"
        )
    return ReleaseFile(filename=filename, sha256=digest, size=target.length)
