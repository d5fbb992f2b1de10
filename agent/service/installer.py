"""Fetching a release: its manifest, the variant for this device, and what that variant needs."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from agent.core.judgement import Choice
from agent.core.slots import InstalledRelease, StandbyVariant
from agent.errors import ReleaseError
from agent.protocol.errors import NewerSchemaError, ProtocolError
from agent.protocol.manifest import ArtifactRef, Manifest, Variant, decode_manifest
from agent.protocol.state import Reason
from agent.protocol.verification import ReleaseFile, VerifiedAssignment
from agent.service.patching import PatchingDownloader

log = logging.getLogger(__name__)

ChooseVariant = Callable[[Manifest, VerifiedAssignment, tuple[str, ...]], "Choice | Reason"]


def read_manifest(path: Path) -> Manifest:
    """Decode a stored manifest; raises like :func:`parse_manifest`."""
    return parse_manifest(path.read_bytes())


def parse_manifest(data: bytes) -> Manifest:
    """Decode a manifest.

    Raises:
        ReleaseError: it breaks the contract; the reason names the field.
    """
    try:
        return decode_manifest(data)
    except NewerSchemaError as error:
        raise ReleaseError(Reason(code="newer-schema", text=str(error))) from error
    except ProtocolError as error:
        raise ReleaseError(Reason(code="malformed-manifest", text=str(error))) from error


class Installer:
    """Brings the files of a release onto the device; what it returns is complete and verified."""

    def __init__(self, downloader: PatchingDownloader, choose: ChooseVariant) -> None:
        self._downloader = downloader
        self._choose = choose

    async def install(
        self, assignment: VerifiedAssignment, tried: tuple[str, ...], progress: Callable[[int, int], None]
    ) -> InstalledRelease:
        """Fetch what is missing; resumes where an earlier call stopped.

        ``progress`` is told how many of how many bytes that travel are here: a patch's where one leads to a file.

        Raises:
            ReleaseError: the release can't be installed here.
        """
        signed = assignment.manifest
        named = ArtifactRef(filename=signed.filename, sha256=signed.sha256, size=signed.size)
        path = await self._downloader.obtain(named, assignment, lambda _done, _total: None)
        manifest = read_manifest(path)
        _check_identity(manifest, assignment)
        _check_files(manifest.artifacts(), assignment.files)
        choice = self._choose(manifest, assignment, tried)
        if isinstance(choice, Reason):
            raise ReleaseError(choice)
        variant = choice.variant
        needed = [variant.artifact, manifest.golden.artifact, manifest.drift_reference]
        offered = _with_unnamed_files(assignment, manifest)
        await self._fetch(needed, offered, progress)
        standby, chosen = await self._fetch_standby(choice, offered)
        if standby is not None:
            needed.append(standby.artifact)
        return InstalledRelease(
            deployment=assignment.assignment.deployment,
            model=manifest.model,
            release=manifest.release,
            variant=variant.name,
            artifact=variant.artifact.sha256,
            manifest=signed.sha256,
            variant_policy=assignment.assignment.variant_policy,
            shadow=assignment.assignment.shadow,
            files=(signed.sha256, *(ref.sha256 for ref in needed)),
            standby=None
            if standby is None
            else StandbyVariant(variant=standby.name, artifact=standby.artifact.sha256),
            chosen=chosen,
        )

    async def _fetch_standby(
        self, choice: Choice, assignment: VerifiedAssignment
    ) -> tuple[Variant | None, Reason]:
        """The standby, and why the variant was chosen; a release is complete without the one, so it is not refused."""
        standby = choice.standby
        if standby is None:
            return None, choice.reason
        try:
            await self._fetch([standby.artifact], assignment, lambda _done, _total: None)
        except ReleaseError as error:
            log.warning("no standby", extra={"variant": standby.name, "why": error.reason.text})
            text = f"{choice.reason.text}; {standby.name} is not kept beside it: {error.reason.text}"
            return None, replace(choice.reason, text=text)
        return standby, choice.reason

    async def _fetch(
        self,
        needed: Sequence[ArtifactRef],
        assignment: VerifiedAssignment,
        progress: Callable[[int, int], None],
    ) -> None:
        done = [0] * len(needed)
        total = [await self._downloader.expected_bytes(ref, assignment.files) for ref in needed]
        for place, ref in enumerate(needed):

            def report(here: int, of: int, place: int = place) -> None:
                done[place], total[place] = here, of
                progress(sum(done), sum(total))

            await self._downloader.obtain(ref, assignment, report)
            done[place] = total[place]
        progress(sum(total), sum(total))


def _with_unnamed_files(assignment: VerifiedAssignment, manifest: Manifest) -> VerifiedAssignment:
    """The assignment with the files that may be patches: one that the manifest names is none, whatever its name."""
    named = {ref.filename for ref in manifest.artifacts()}
    return replace(assignment, files=tuple(file for file in assignment.files if file.filename not in named))


def _check_identity(manifest: Manifest, assignment: VerifiedAssignment) -> None:
    named = (manifest.model, manifest.release)
    asked = (assignment.model, assignment.release)
    if named != asked:
        text = (
            f"the signed manifest is of {named[0]} release {named[1]}, not of {asked[0]} release {asked[1]}"
        )
        raise ReleaseError(Reason(code="wrong-release", text=text))


def _check_files(named: Iterable[ArtifactRef], signed: Iterable[ReleaseFile]) -> None:
    """Every file the manifest names must be one that the approvers signed, under that name."""
    by_name = {file.filename: (file.sha256, file.size) for file in signed}
    for ref in named:
        if by_name.get(ref.filename) != (ref.sha256, ref.size):
            text = f"{ref.filename} is named in the manifest but not signed by the approvers as that file"
            raise ReleaseError(Reason(code="not-approved", text=text))
