"""What signing a draft would change, or why it must not be signed (pure)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import TargetFile, Targets

from agent.protocol.ids import DIGEST_PATTERN, MANIFEST_FILENAME, release_path
from agent.protocol.limits import MAX_MANIFEST_BYTES
from agent.protocol.manifest import ArtifactRef, Budget, Manifest
from agent.protocol.patches import PatchMethod, parse_patch_name
from agent.protocol.words import as_lines
from cloud_hub.signing.documents import MODEL_FIELD, ROLE_LIFE, stamp
from cloud_hub.signing.errors import DraftRefusedError

_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(DIGEST_PATTERN)


@dataclass(frozen=True)
class AddedFile:
    """One file that the draft adds."""

    filename: str
    sha256: str
    length: int
    """Bytes."""


@dataclass(frozen=True)
class AddedPatch:
    """One patch that the draft adds: another way to a file that the manifest names."""

    file: AddedFile
    method: PatchMethod
    target: AddedFile
    """What it must make."""
    base: AddedFile | None
    """What it is applied to: a file that approvers have signed before; None where it needs none."""
    base_release: int | None


@dataclass(frozen=True)
class Difference:
    """All that a draft does: it adds the files of one release. Only :func:`compare` makes one."""

    model: str
    release: int
    version: int
    """Of the role, after the base's."""
    expires: datetime
    manifest: AddedFile
    files: tuple[AddedFile, ...]
    """The release's other files, by name."""


def compare(base: Targets, draft: Targets, *, model: str, release: int, now: datetime) -> Difference:
    """Compare a draft with the verified base that it builds on.

    Raises:
        DraftRefusedError: it does anything else than add files of that release: the text says what.
    """
    check_frame(base, draft, model, now)
    removed = sorted(base.targets.keys() - draft.targets.keys())
    require_none(removed, "removes what is published")
    require_none(changed(base.targets, draft.targets), "changes what is published")
    prefix = release_path(model, release, "")
    require_none(
        sorted(path for path in base.targets if path.startswith(prefix)),
        f"adds to release {release}, which is published already:",
    )
    added = {path: draft.targets[path] for path in draft.targets.keys() - base.targets.keys()}
    strangers = sorted(path for path in added if not _belongs(path, prefix))
    require_none(strangers, f"adds what is no file of {model} release {release}:")
    files = {file.filename: file for file in (_added(path, added[path], prefix) for path in sorted(added))}
    manifest = files.pop(MANIFEST_FILENAME, None)
    if manifest is None:
        raise DraftRefusedError(f"the draft has no {prefix}{MANIFEST_FILENAME}")
    if manifest.length > MAX_MANIFEST_BYTES:
        raise DraftRefusedError(
            f"{MANIFEST_FILENAME}: {manifest.length} bytes, at most {MAX_MANIFEST_BYTES} are allowed"
        )
    return Difference(model, release, draft.version, draft.expires, manifest, tuple(files.values()))


def check_manifest(difference: Difference, manifest: Manifest, base: Targets) -> tuple[AddedPatch, ...]:
    """Check that the manifest is the named release's, and names the files that the draft adds; returns the rest: patches.

    Raises:
        DraftRefusedError: it is another release's, or a file is missing, extra or different. A patch is an extra file
            unless it says that it makes a file which the manifest names, out of one that is approved in ``base``.
    """
    if (manifest.model, manifest.release) != (difference.model, difference.release):
        raise DraftRefusedError(
            f"the manifest is of {manifest.model} release {manifest.release}, "
            f"not of {difference.model} release {difference.release}"
        )
    named = {_as_added(artifact) for artifact in manifest.artifacts()}
    targets = {file.filename: file for file in named}
    others = [file for file in difference.files if file not in named]
    patches = {file: _as_patch(file, targets, base) for file in others}
    require_none(
        _names(file for file, patch in patches.items() if patch is None),
        "adds what the manifest does not name so:",
    )
    require_none(_names(named - set(difference.files)), "lacks what the manifest names:")
    return tuple(patch for patch in patches.values() if patch is not None)


def _as_patch(file: AddedFile, targets: dict[str, AddedFile], base: Targets) -> AddedPatch | None:
    """The patch that a file says it is, None where it says so of no file of this release.

    Raises:
        DraftRefusedError: its base is not approved, or it is not smaller than what it makes.
    """
    name = parse_patch_name(file.filename)
    target = targets.get(name.target) if name is not None and file.filename not in targets else None
    if name is None or target is None:
        return None
    if file.length >= target.length:
        raise DraftRefusedError(
            f"{file.filename}: {file.length} bytes to make the {target.length} of {target.filename}"
        )
    if name.base is None:
        return AddedPatch(file, name.method, target, None, None)
    found = {
        (approved.hashes.get("sha256", ""), approved.length): path
        for path, approved in sorted(base.targets.items())
        if approved.hashes.get("sha256", "").startswith(name.base)
    }
    if len(found) != 1:
        raise DraftRefusedError(f"{file.filename}: it changes a file that was never approved: {name.base}…")
    (((digest, length), path),) = found.items()
    _, _, release, filename = path.split("/")
    return AddedPatch(file, name.method, target, AddedFile(filename, digest, length), int(release))


def describe(difference: Difference, manifest: Manifest, patches: Sequence[AddedPatch]) -> str:
    """The difference in plain words, for the person who is about to sign it."""
    ways = {patch.file for patch in patches}
    files = (difference.manifest, *(file for file in difference.files if file not in ways))
    total = sum(file.length for file in files)
    variants = ", ".join(f"{v.name} (accuracy {v.accuracy:.4f})" for v in manifest.variants)
    lines = [
        f"Approve {difference.model} release {difference.release}?",
        f"  summary   {_close(manifest.summary)}",
        f"  author    {_close(manifest.author)}",
        f"  variants  {variants}",
        *(_budget(name, budget) for name, budget in sorted(manifest.budgets.items())),
        f"  role      version {difference.version}, expires {stamp(difference.expires)}",
        f"  adds      {len(files)} files, {total} bytes; each was fetched and hashed here:",
        *(f"            {file.sha256[:16]}…  {file.length:>10}  {file.filename}" for file in files),
        *_patch_lines(patches),
        "  and changes nothing else.",
    ]
    return as_lines(lines)


def _close(text: str) -> str:
    """Without runs of spaces: where a terminal wraps, they would make the rest look like a line of ours."""
    return re.sub(" {2,}", " ", text)


def _patch_lines(patches: Sequence[AddedPatch]) -> list[str]:
    if not patches:
        return []
    lines = [f"  patches   {len(patches)}; each was applied here, and made exactly the file named:"]
    for patch in patches:
        source = "compressed" if patch.base is None else f"from release {patch.base_release}"
        sizes = f"{patch.file.length} bytes instead of {patch.target.length}"
        lines.append(f"            {patch.target.filename} {source}: {sizes}")
    return lines


def _budget(hardware_class: str, budget: Budget) -> str:
    text = f"  budget    {hardware_class}: p99 {budget.p99_ms:g} ms, {budget.peak_memory_mib:g} MiB"
    slo = budget.slo
    if slo is None:
        return f"{text}; no service level"
    return (
        f"{text}; while it serves, p99 {slo.p99_ms:g} ms and {slo.maximum_failure_rate:.2%} failed at most, "
        f"over {slo.seconds:g} s and {slo.minimum_requests} requests"
    )


def check_frame(base: Targets, draft: Targets, model: str, now: datetime) -> None:
    """Check everything of a draft but its targets; raises DraftRefusedError."""
    if draft.version != base.version + 1:
        raise DraftRefusedError(
            f"the draft is version {draft.version}; the published one is {base.version}, so it must be {base.version + 1}"
        )
    if not now < draft.expires <= now + ROLE_LIFE:
        raise DraftRefusedError(
            f"the draft expires {stamp(draft.expires)}; allowed is within {ROLE_LIFE.days} days from now"
        )
    if draft.delegations is not None:
        raise DraftRefusedError("the draft delegates to other keys, which a model's role may not")
    if draft.unrecognized_fields != {MODEL_FIELD: model}:
        fields = ", ".join(f"{name}={value!r}" for name, value in sorted(draft.unrecognized_fields.items()))
        raise DraftRefusedError(
            f"the draft's own fields are {fields or 'none'}; allowed is {MODEL_FIELD}={model!r}"
        )


def changed(base: dict[str, TargetFile], draft: dict[str, TargetFile]) -> list[str]:
    """Paths that are in both and not the same."""
    return sorted(path for path in base.keys() & draft.keys() if base[path] != draft[path])


def _belongs(path: str, prefix: str) -> bool:
    return path.startswith(prefix) and _FILENAME.fullmatch(path.removeprefix(prefix)) is not None


def _added(path: str, target: TargetFile, prefix: str) -> AddedFile:
    digest = target.hashes.get("sha256", "")
    if set(target.hashes) != {"sha256"} or not _DIGEST.fullmatch(digest) or target.unrecognized_fields:
        raise DraftRefusedError(f"{path}: it must carry a length and one SHA-256, and nothing else")
    if target.length < 1:
        raise DraftRefusedError(f"{path}: it is empty")
    return AddedFile(path.removeprefix(prefix), digest, target.length)


def _as_added(artifact: ArtifactRef) -> AddedFile:
    return AddedFile(artifact.filename, artifact.sha256, artifact.size)


def _names(files: Iterable[AddedFile]) -> list[str]:
    return sorted(file.filename for file in files)


def require_none(paths: list[str], what: str) -> None:
    """Raises DraftRefusedError: the draft does ``what`` to ``paths``."""
    if paths:
        raise DraftRefusedError(f"the draft {what} {', '.join(map(repr, paths))}")
