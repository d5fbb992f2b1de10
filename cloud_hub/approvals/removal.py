"""What signing a draft that adds nothing would change: a release withdrawn, or nothing but a longer life (pure)."""

from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import Targets

from agent.protocol.ids import release_path
from agent.protocol.words import as_lines
from cloud_hub.approvals.difference import changed, check_frame, require_none
from cloud_hub.signing.documents import stamp
from cloud_hub.signing.errors import DraftRefusedError


@dataclass(frozen=True)
class Removal:
    """All that a draft does: it takes out the files of one release, or none at all. Only :func:`compare_removal` makes one."""

    model: str
    release: int | None
    """None: a renewal."""
    version: int
    expires: datetime
    removed: tuple[str, ...]
    """File names."""
    remaining: tuple[int, ...]
    """Releases that stay approved."""


def compare_removal(
    base: Targets, draft: Targets, *, model: str, release: int | None, now: datetime
) -> Removal:
    """Compare a draft with the verified base that it builds on.

    Raises:
        DraftRefusedError: it does anything else than take out that release's files, all of them: the text says what.
    """
    check_frame(base, draft, model, now)
    require_none(sorted(draft.targets.keys() - base.targets.keys()), "adds")
    require_none(changed(base.targets, draft.targets), "changes what is published")
    gone = base.targets.keys() - draft.targets.keys()
    prefix = None if release is None else release_path(model, release, "")
    asked = {path for path in base.targets if prefix is not None and path.startswith(prefix)}
    if prefix is not None and not asked:
        raise DraftRefusedError(
            f"{model} release {release} is not published, so there is nothing to withdraw"
        )
    require_none(sorted(gone - asked), "removes what it should not:")
    require_none(sorted(asked - gone), f"leaves some of release {release}:")
    remaining = {int(path.split("/")[2]) for path in draft.targets}
    names = tuple(sorted(path.removeprefix(prefix or "") for path in gone))
    return Removal(model, release, draft.version, draft.expires, names, tuple(sorted(remaining)))


def describe_removal(removal: Removal) -> str:
    """The difference in plain words, for the person who is about to sign it."""
    stay = ", ".join(map(str, removal.remaining)) or "none"
    if removal.release is None:
        head = [f"Renew what is approved of {removal.model}?"]
        body = ["  adds and removes nothing"]
    else:
        head = [f"Withdraw {removal.model} release {removal.release}?"]
        body = [
            f"  removes   {len(removal.removed)} files: {', '.join(removal.removed)}",
            "            Devices take it no more; those that serve it go back when they are told to.",
        ]
    return as_lines(
        [
            *head,
            *body,
            f"  stay      releases {stay}",
            f"  role      version {removal.version}, expires {stamp(removal.expires)}",
            "  and changes nothing else.",
        ]
    )
