"""Stolen keys, role by role: what a thief can do with each, and how it ends."""

from collections.abc import Callable

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets

from agent.protocol.state import Phase
from tests.fault.attacks import forging
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub
from tests.fault.trust.hub_simulator import version_of


@pytest.fixture
def unapproved(hub: HostileHub) -> int:
    """A release whose bytes the hub has, and that nobody has signed."""
    release = hub.next_release()
    hub.add("digits", release)
    return release


def test_one_approver(hub: HostileHub, device: AttackedDevice, unapproved: int) -> None:
    honest = hub.repository.published("digits")
    hub.list_unchecked("digits", hub.sign_draft(hub.draft("digits", unapproved), "ada"))
    director, deployment = device.order(unapproved)
    reason = device.rejects(director, deployment)
    assert reason.code == "not-approved"
    assert "1/2" in reason.text
    forging.relist(hub, honest)


def test_one_approver_under_two_names(hub: HostileHub, device: AttackedDevice, unapproved: int) -> None:
    honest = hub.repository.published("digits")
    document = Metadata[Targets].from_bytes(hub.sign_draft(hub.draft("digits", unapproved), "ada"))
    (signature,) = document.signatures.values()
    signature.keyid = hub.keys.approvers["ben"].public_key.keyid
    document.signatures[signature.keyid] = signature
    document.sign(hub.keys.approvers["ada"], append=True)
    hub.list_unchecked("digits", document.to_bytes())
    director, deployment = device.order(unapproved)
    assert device.rejects(director, deployment).code == "not-approved"
    forging.relist(hub, honest)


def test_an_approver_who_was_revoked(hub: HostileHub, device: AttackedDevice, unapproved: int) -> None:
    """The others have signed the current version before; then the top-level targets forget the key."""
    forging.list_role(hub, lambda _: None, "ada", "ben")
    honest = hub.repository.published("digits")
    revoked = hub.keys.approvers["cyd"].public_key.keyid
    forging.publish_targets(hub, lambda signed: signed.revoke_key(revoked, "digits"))
    hub.list_unchecked("digits", hub.sign_draft(hub.draft("digits", unapproved), "ada", "ben"))
    forged = Metadata[Targets].from_bytes(hub.repository.published("digits"))
    forged.signatures.clear()
    for name in ("ada", "cyd"):
        forged.sign(hub.keys.approvers[name], append=True)
    hub.list_unchecked("digits", forged.to_bytes())
    director, deployment = device.order(unapproved)
    reason = device.rejects(director, deployment)
    assert reason.code == "not-approved"
    assert "1/2" in reason.text
    forging.relist(hub, honest)
    forging.publish_targets(
        hub, lambda signed: signed.add_key(hub.keys.approvers["cyd"].public_key, "digits")
    )


def test_everything_the_hub_holds(hub: HostileHub, device: AttackedDevice, unapproved: int) -> None:
    """Storage, online key and director's key together can't approve."""
    honest = hub.repository.published("digits")
    document = Metadata[Targets].from_bytes(hub.draft("digits", unapproved))
    for signer in (hub.keys.online, hub.keys.director, CryptoSigner.generate_ed25519()):
        document.sign(signer, append=True)
    hub.list_unchecked("digits", document.to_bytes())
    director, deployment = device.order(unapproved)
    assert device.rejects(director, deployment).code == "not-approved"
    forging.relist(hub, honest)


def test_an_approved_role_changed_after_it_was_signed(hub: HostileHub, device: AttackedDevice) -> None:
    honest = hub.repository.published("digits")
    version = version_of(honest)
    changed = honest.replace(f'"version":{version}'.encode(), f'"version":{version + 1}'.encode())
    assert changed != honest
    hub.list_unchecked("digits", changed)
    director, deployment = device.order(1)
    assert device.rejects(director, deployment).code == "not-approved"
    forging.relist(hub, honest)


def test_the_directors_key_chooses_among_approved_releases_only(
    hub: HostileHub, device: AttackedDevice, unapproved: int
) -> None:
    director, deployment = device.order(unapproved)
    reason = device.rejects(director, deployment)
    assert reason.code == "not-approved"
    assert "no approver has signed it, or it was withdrawn" in reason.text


def test_the_directors_key_orders_what_is_older_than_the_floor(
    hub: HostileHub, device: AttackedDevice
) -> None:
    """Approved once and never withdrawn, but older than what was committed here, and never committed here itself."""
    older, newer = hub.next_release(), hub.next_release()
    hub.release("digits", older)
    hub.release("digits", newer)
    served = device.answer()
    device.commits(newer)
    director, deployment = device.order(older)
    assert device.rejects(director, deployment).code == "below-floor"
    assert served is not None
    device.commits(served)


def test_the_directors_key_runs_its_versions_ahead(hub: HostileHub, device: AttackedDevice) -> None:
    """Fast-forward: what it signs blocks honest documents, until the offline holders give the director another key."""
    honest, deployment = hub.director_version, hub.next_deployment()
    ahead = hub.direct(1, device=device.name, version=2**53, deployment=deployment)
    assert device.ends(ahead, deployment).phase is Phase.COMMITTED
    hub.director_version = honest
    assert device.refuses(device.order(1)[0]).code == "rollback-attack"
    rotate_director(hub)
    device.commits(1)


def rotate_director(hub: HostileHub) -> None:
    """The offline holders' answer to a stolen director's key: top-level targets that delegate to another one."""
    stolen, hub.keys.director = hub.keys.director, CryptoSigner.generate_ed25519()

    def change(signed: Targets) -> None:
        signed.revoke_key(stolen.public_key.keyid, "director")
        signed.add_key(hub.keys.director.public_key, "director")

    forging.publish_targets(hub, change)


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_the_online_key_runs_versions_ahead(hub: HostileHub, device: AttackedDevice, role: str) -> None:
    """Fast-forward: a hub that comes back to itself is blocked, until the online key is rotated in a new root."""
    honest = dict(hub.store.files)
    if role == "timestamp":
        forging.publish_timestamp(hub, lambda signed: setattr(signed, "version", 2**53))
        device.commits(1)
    else:  # the snapshot that names a version of the model's role which nobody has signed
        forging.publish_snapshot(hub, lambda signed: setattr(signed.meta["digits.json"], "version", 2**53))
        director, deployment = device.order(1)
        assert device.rejects(director, deployment).code == "missing-metadata"
    hub.store.files = honest
    assert device.refuses(device.order(1)[0]).code == "rollback-attack"
    hub.rotate_online()
    device.commits(1)


def test_the_online_key_signs_a_version_that_no_mark_could_hold(
    hub: HostileHub, device: AttackedDevice
) -> None:
    honest = dict(hub.store.files)
    for version in (2**53 + 1, 2**70):
        forging.publish_timestamp(hub, lambda signed, version=version: setattr(signed, "version", version))  # type: ignore[misc]
        assert device.refuses(device.order(1)[0]).code == "malformed"
    hub.store.files = honest


def test_the_online_key_lists_a_withdrawn_release_again(hub: HostileHub, device: AttackedDevice) -> None:
    """A device that saw the withdrawal refuses the role from before it."""
    release = hub.next_release()
    hub.release("digits", release)
    before = hub.repository.published("digits")
    forging.list_role(hub, withdraw(release), "ada", "cyd")
    device.commits(1)
    honest = hub.repository.published("digits")
    hub.list_unchecked("digits", before)
    assert device.refuses(device.order(release)[0]).code == "rollback-attack"
    hub.list_unchecked("digits", honest)


def test_a_withdrawn_release_is_not_installed(hub: HostileHub, device: AttackedDevice) -> None:
    release = hub.next_release()
    hub.release("digits", release)
    forging.list_role(hub, withdraw(release), "ben", "cyd")
    director, deployment = device.order(release)
    assert device.rejects(director, deployment).code == "not-approved"


def test_a_root_without_enough_holders(hub: HostileHub, device: AttackedDevice) -> None:
    """It would name a key of the thief's as the online one."""
    before = dict(hub.store.files)
    thief = CryptoSigner.generate_ed25519()

    def change(signed: Root) -> None:
        signed.add_key(thief.public_key, "timestamp")

    forging.publish_root(hub, change, [hub.keys.offline[0], thief])
    assert device.refuses(device.order(1)[0]).code == "bad-signature"
    hub.store.files = before


def test_top_level_targets_without_enough_holders(hub: HostileHub, device: AttackedDevice) -> None:
    """A hub that delegates a model to approvers of its own: one offline key and the online key are not enough."""
    before = dict(hub.store.files)
    forging.publish_targets(hub, lambda _: None, [hub.keys.offline[0], hub.keys.online])
    assert device.refuses(device.order(1)[0]).code == "bad-signature"
    hub.store.files = before
    hub.repository.sign_anew()
    forging.publish_targets(hub, lambda _: None)


def withdraw(release: int) -> Callable[[Targets], None]:
    """Take a release out of a role."""

    def change(role: Targets) -> None:
        role.targets = {path: file for path, file in role.targets.items() if f"/{release}/" not in path}

    return change
