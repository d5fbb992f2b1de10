"""A ceremony in plain words: all that would change, and who has still to sign (pure)."""

from collections.abc import Mapping
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from agent.protocol.words import as_lines
from cloud_hub.signing.ceremony_file import Ceremony
from cloud_hub.signing.keys import key_name
from cloud_hub.signing.trust_set import Holders, TrustSet


def describe(ceremony: Ceremony) -> str:
    """The difference, for the person who is about to sign it."""
    before, after = ceremony.before, ceremony.after
    lines = ["This ceremony"]
    if before is None:
        lines += _founding(after)
    else:
        lines += _root_changes(before, after)
        for model in after.models:
            lines += _model_changes(model, before, after)
        gone = before.models.keys() - after.models.keys()
        lines += [f"  removes model {model}" for model in sorted(gone)]
        lines += _key_change("the online key", before.online, after.online)
        lines += _key_change("the director's key", before.director, after.director)
    lines += ["  with these documents:"]
    lines += [_document(role, before, after) for role in ceremony.file.new]
    lines += ["  and changes nothing else: no release is added or removed."]
    return as_lines(lines)


def progress(ceremony: Ceremony) -> str:
    """Who has signed, and who must."""
    lines = []
    for duty in ceremony.duties:
        names = [key_name(duty.holders.keys[keyid]) for keyid in duty.signed]
        signed = ", ".join(names) or "nobody"
        line = f"  {duty.role}, {duty.who}: signed by {signed}"
        if duty.missing:
            line += f"; {duty.missing} more of {', '.join(duty.open_names)}"
        lines.append(line)
    end = "Complete: it can be published." if ceremony.complete else "Not complete yet."
    return as_lines(("Signatures:", *lines, end))


def _founding(after: TrustSet) -> list[str]:
    lines = ["  founds a repository. Compare each key id with the one that its holder reads to you.", *_all(
        "root holder", after.root_holders)]  # fmt: skip
    for model in after.models:
        lines += [f"  adds model {model}", *_all(f"approver of {model}", after.holders(model))]
    lines += _all("online key, on the hub", after.online)
    lines += _all("director's key, on the hub", after.director)
    return lines


def _all(what: str, holders: Holders) -> list[str]:
    count = f"  {holders.threshold} of {len(holders.keys)} must sign:" if len(holders.keys) > 1 else ""
    head = [count] if count else []
    return [*head, *(f"    {what:<28} {_named(key)}" for key in holders.keys.values())]


def _root_changes(before: TrustSet, after: TrustSet) -> list[str]:
    return _holder_changes("root holder", before.root_holders, after.root_holders)


def _model_changes(model: str, before: TrustSet, after: TrustSet) -> list[str]:
    if model not in before.models:
        return [f"  adds model {model}", *_all(f"approver of {model}", after.holders(model))]
    return _holder_changes(f"approver of {model}", before.holders(model), after.holders(model))


def _holder_changes(what: str, before: Holders, after: Holders) -> list[str]:
    lines = [f"  adds {what} {_named(key)}" for key in _only(after.keys, before.keys)]
    lines += [f"  revokes {what} {_named(key)}" for key in _only(before.keys, after.keys)]
    for keyid in before.keys.keys() & after.keys.keys():
        if before.keys[keyid].to_dict() != after.keys[keyid].to_dict():
            lines.append(f"  writes {what} {_named(before.keys[keyid])} as {_named(after.keys[keyid])}")
    if before.threshold != after.threshold:
        lines.append(
            f"  changes how many {what}s must sign: {before.threshold} until now, {after.threshold} of "
            f"{len(after.keys)} from now on"
        )
    return lines


def _key_change(what: str, before: Holders, after: Holders) -> list[str]:
    (old,), (new,) = before.keys.values(), after.keys.values()
    return [] if old.keyid == new.keyid else [f"  replaces {what} {old.keyid[:16]}… by {new.keyid[:16]}…"]


def _document(role: str, before: TrustSet | None, after: TrustSet) -> str:
    document = after.document(role)
    old = before.document(role).signed.version if before is not None and role in before.roles() else None
    text = f"    {role} version {document.signed.version}, expires {_day(document.signed.expires)}"
    if old is None:
        return f"{text}, new"
    if role in (Root.type, Targets.type):
        return text
    count = len({path.split("/")[2] for path in after.models[role].signed.targets})
    return f"{text}, the same {count} releases as version {old}"


def _only(these: Mapping[str, Key], those: Mapping[str, Key]) -> list[Key]:
    return [key for keyid, key in these.items() if keyid not in those]


def _named(key: Key) -> str:
    return f"{key_name(key)} ({key.scheme} {key.keyid[:16]}…)"


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
