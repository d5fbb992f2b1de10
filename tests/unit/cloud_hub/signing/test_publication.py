"""Ceremonies, published file after file and looked at after each one by the agent's own verifier."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, TargetFile, Targets, Timestamp

from cloud_hub.signing.ceremony_file import CeremonyFile, examine, sign
from cloud_hub.signing.changes import Changes
from cloud_hub.signing.errors import CeremonyError
from cloud_hub.signing.publication import publish, published_roots, published_set
from cloud_hub.signing.words import describe, progress
from tests.fault.trust.hub_simulator import Device, HubSimulator
from tests.unit.cloud_hub.signing.ceremonial import Ceremonial, Change, Follower, first_holder


@pytest.fixture
def hub() -> Ceremonial:
    return Ceremonial()


def newest(hub: Ceremonial, count: int = 1) -> list[Key]:
    return [hub.newcomer(f"new-{number}") for number in range(count)]


CEREMONIES: dict[str, tuple[Callable[[Ceremonial], list[Change]], str]] = {
    "a model is added": (lambda hub: [lambda c: c.add_model("voices", newest(hub, 3), 2)], "adds model voices"),
    "an approver is added": (lambda hub: [lambda c: c.add_approver(hub.newcomer("dora"), [])], "adds approver of digits dora"),
    "an approver who signed what is published goes": (
        lambda _: [lambda c: c.revoke_approver("ada", [])], "digits version 3, expires .*, the same 1 releases as version 2"),
    "an approver of one model goes": (lambda _: [lambda c: c.revoke_approver("ben", ["faces"])], "revokes approver of faces ben"),
    "an approver is replaced": (
        lambda hub: [lambda c: c.add_approver(hub.newcomer("dora"), []), lambda c: c.revoke_approver("ada", [])],
        "adds approver of faces dora"),
    "every approver must sign": (
        lambda _: [lambda c: c.set_approver_threshold(3, [])], "how many approver of digitss must sign: 2 until now, 3 of 3"),
    "the online key is rotated": (lambda hub: [lambda c: c.rotate_online(hub.newcomer("online"))], "replaces the online key"),
    "the director's key is rotated": (
        lambda hub: [lambda c: c.rotate_director(hub.newcomer("director"))], "replaces the director's key"),
    "a root holder is replaced": (
        lambda hub: [lambda c: c.change_root(add=newest(hub), remove=[first_holder(hub)])], "adds root holder new-0"),
    "all root holders are replaced": (
        lambda hub: [lambda c: c.change_root(add=newest(hub, 3), remove=published_set(hub.store).root_holders.names)],
        "revokes root holder"),
    "all root holders must sign": (lambda _: [lambda c: c.change_root(threshold=3)], "2 until now, 3 of 3"),
    "root and targets are renewed": (lambda _: [lambda c: c.renew(["root", "targets"])], "root version 2"),
    "all at once": (
        lambda hub: [
            lambda c: c.change_root(add=newest(hub, 2), remove=[first_holder(hub)], threshold=3),
            lambda c: c.rotate_online(hub.newcomer("online")),
            lambda c: c.rotate_director(hub.newcomer("director")),
            lambda c: c.revoke_approver("ada", []),
            lambda c: c.add_model("voices", newest(hub, 2), 1),
        ], "adds model voices"),
}  # fmt: skip


@pytest.mark.parametrize("name", CEREMONIES)
def test_after_every_single_file_everything_verifies(hub: Ceremonial, name: str) -> None:
    make, words = CEREMONIES[name]
    hub.follower.look(hub)
    ceremony = hub.hold(*make(hub))
    assert hub.broken == []
    assert hub.looks >= 3
    assert hub.follower.look(hub) == set(ceremony.after.models)
    assert Follower(hub.root).look(hub) == set(ceremony.after.models)
    text = describe(ceremony)
    assert re.search(words, text), text
    assert "no release is added or removed" in text


def test_the_same_files_in_another_order_would_leave_a_role_unverifiable(hub: Ceremonial) -> None:
    """What the test above would see: the top-level targets without ada go out before the others have signed."""
    file = hub.everybody(hub.begin(lambda c: c.revoke_approver("ada", ["digits"])))
    targets = file.new["targets"].encode()
    hub.repository.publish_role("targets", 2, targets)
    hub.look("targets alone")
    assert len(hub.broken) == 2
    assert all("digits" in text for text in hub.broken), hub.broken


def test_a_new_root_that_goes_out_before_its_timestamp_is_seen(hub: Ceremonial) -> None:
    """The one case in which devices must wait: the hub has lost the old online key, so nobody can sign with both."""
    lost = hub.keys.online.public_key.keyid
    del hub.signers[lost]
    hub.hold(lambda c: c.rotate_online(hub.newcomer("online")))
    assert {text.split(": ")[0] for text in hub.broken} == {
        "new device after 2.root.json", "old device after 2.root.json",
        "new device after 3.snapshot.json", "old device after 3.snapshot.json",
    }  # fmt: skip
    assert hub.follower.look(hub) == {"digits", "faces"}


def test_catching_up_over_more_than_twenty_roots(hub: Ceremonial) -> None:
    """Every holder and the online key change again and again while a device is in a drawer; a real verifier takes it up."""
    device = Device(root=hub.root)
    assert device.check(hub, hub.direct(1)).assignments != ()
    for turn in range(24):

        def replace(c: Changes, name: str = f"holder-{turn}") -> None:
            c.change_root(add=[hub.newcomer(name)], remove=[first_holder(hub)])

        hub.hold(replace, lambda c: c.rotate_online(hub.newcomer("online")), watched=False)
    assert len(published_roots(hub.store)) == 25
    result = device.check(hub, hub.direct(1))
    assert result.refusal is None
    assert [taken.release for taken in result.assignments] == [1]
    assert "25.root.json" in result.metadata


@pytest.mark.parametrize(
    "left_behind", [False, True], ids=["only-devices-saw-it", "it-stands-on-the-hub-too"]
)
def test_a_fast_forward_with_stolen_keys_is_recovered_from_by_one_ceremony(
    hub: Ceremonial, *, left_behind: bool
) -> None:
    """A thief signs a time stamp and a device's document with versions that no hub will ever reach."""
    device = Device(root=hub.root)
    thief_online, thief_director, far = hub.keys.online, hub.keys.director, 2**40
    stamp = Metadata[Timestamp].from_bytes(hub.store.files["timestamp.json"])
    stamp.signed.version = far
    stamp.sign(thief_online)
    honest = dict(hub.store.files)
    hub.store.files["timestamp.json"] = stamp.to_bytes()
    assert device.check(hub, hub.direct(1, version=far)).refusal is None
    if not left_behind:
        hub.store.files.update(honest)
    hub.director_version = 2
    assert refusal(device, hub, hub.direct(1)) == "rollback-attack"

    hub.hold(
        lambda c: c.rotate_online(hub.newcomer("online")),
        lambda c: c.rotate_director(hub.newcomer("director")),
    )
    result = device.check(hub, hub.direct(1))
    assert result.refusal is None
    assert [taken.release for taken in result.assignments] == [1]
    assert {mark.version for mark in result.marks if mark.role == "timestamp"} == {
        far,
        hub.repository.versions()["timestamp"],
    }
    assert hub.repository.versions()["timestamp"] < far
    assert refusal(device, hub, hub.direct(1, signer=thief_director)) == "bad-signature"
    stamp.signed.version = far + 1
    stamp.sign(thief_online)
    hub.store.files["timestamp.json"] = stamp.to_bytes()
    assert refusal(device, hub, hub.direct(1)) == "bad-signature"


def refusal(device: Device, hub: HubSimulator, director: bytes) -> str | None:
    found = device.check(hub, director).refusal
    return None if found is None else found.code


def forged(role: str, change: Callable[[Targets], None]) -> Callable[[CeremonyFile], CeremonyFile]:
    """Change the new document of a role, as whoever carries the file can; the signatures on it are void then."""

    def spoil(file: CeremonyFile) -> CeremonyFile:
        document = Metadata[Targets].from_bytes(file.new[role].encode())
        change(document.signed)
        return CeremonyFile(
            roots=file.roots, published=file.published, new=file.new | {role: document.to_bytes().decode()}
        )

    return spoil


def without_releases(file: CeremonyFile) -> CeremonyFile:
    old = Metadata[Targets].from_bytes(file.published["digits"].encode())
    old.signed.targets.clear()
    return CeremonyFile(
        roots=file.roots, published=file.published | {"digits": old.to_bytes().decode()}, new=file.new
    )


def slip_in(targets: Targets) -> None:
    path = "models/digits/7/manifest.json"
    targets.targets[path] = TargetFile(3, {"sha256": "0" * 64}, path)


def widen(targets: Targets) -> None:
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    targets.delegations.roles["digits"].paths = ["models/*/*/*"]


TRICKS: dict[str, tuple[Callable[[CeremonyFile], CeremonyFile], str]] = {
    "a release is slipped in": (forged("digits", slip_in), "never changes which releases are approved"),
    "a release is taken out": (forged("digits", lambda t: t.targets.clear()), "never changes which releases"),
    "a release is slipped into the top-level": (forged("targets", slip_in), "may only delegate"),
    "approvers get the paths of other models": (forged("targets", widen), "terminating delegation"),
    "a role lives longer than it may": (
        forged("digits", lambda t: setattr(t, "expires", t.expires + timedelta(days=2))), "would live until"),
    "a role gets a field": (forged("digits", lambda t: t.unrecognized_fields.update(device="x")), "fields that"),
    "a version is skipped": (forged("digits", lambda t: setattr(t, "version", 9)), "does not follow"),
    "what is called published is not": (without_releases, "published digits is not signed"),
    "the re-signed role is left out": (
        lambda file: CeremonyFile(roots=file.roots, published=file.published, new={"targets": file.new["targets"]}),
        "digits would not be verifiable"),
    "nothing is new": (lambda file: CeremonyFile(roots=file.roots, published=file.published, new={}), "nothing would"),
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_a_file_that_does_anything_else_than_a_ceremony_is_not_signed(hub: Ceremonial, trick: str) -> None:
    spoil, words = TRICKS[trick]
    file = hub.begin(lambda c: c.revoke_approver("ada", []))
    hub.examined(file)
    with pytest.raises(CeremonyError, match=words):
        hub.examined(spoil(file))


def test_who_holds_nothing_in_a_ceremony_signs_nothing(hub: Ceremonial) -> None:
    ceremony = hub.examined(hub.begin(lambda c: c.revoke_approver("ada", [])))
    with pytest.raises(CeremonyError, match="has nothing to sign"):
        sign(ceremony, hub.keys.approvers["ada"])
    assert "2 more of ben, cyd" in progress(ceremony)


def test_what_is_not_complete_is_not_published(hub: Ceremonial) -> None:
    before = dict(hub.store.files)
    ceremony = hub.examined(sign_one(hub, hub.begin(lambda c: c.renew(["root"]))))
    with pytest.raises(CeremonyError, match="signatures are missing"):
        publish(hub.store, ceremony, hub.find, hub.now)
    assert hub.store.files == before


def sign_one(hub: Ceremonial, file: CeremonyFile) -> CeremonyFile:
    return sign(hub.examined(file), hub.keys.offline[0])


def test_a_release_that_was_approved_meanwhile_is_not_lost(hub: Ceremonial) -> None:
    revoked = hub.examined(hub.everybody(hub.begin(lambda c: c.revoke_approver("ada", []))))
    rotated = hub.examined(hub.everybody(hub.begin(lambda c: c.rotate_online(hub.newcomer("online")))))
    hub.approve("digits", 2)
    with pytest.raises(CeremonyError, match="digits has changed since"):
        publish(hub.store, revoked, hub.find, hub.now)
    publish(hub.store, rotated, hub.find, hub.now)  # this one does not touch the model's role
    hub.adopt(rotated)
    assert "models/digits/2/manifest.json" in hub.repository.targets("digits")
    with pytest.raises(CeremonyError, match="the published root is not the one"):
        publish(hub.store, rotated, hub.find, hub.now)


def revoke_two(changes: Changes) -> None:
    changes.revoke_approver("ada", [])
    changes.revoke_approver("ben", [])


NONSENSE: dict[str, tuple[Change, str]] = {
    "a model twice": (lambda c: c.add_model("digits", [], 1), "there already"),
    "a model named like a role": (lambda c: c.add_model("snapshot", [], 1), "not a name, or one of"),
    "nobody to revoke": (lambda c: c.revoke_approver("zoe", []), "no approver of any model"),
    "too few left": (revoke_two, "there would be 1 approvers"),
    "a threshold over the number of approvers": (lambda c: c.set_approver_threshold(4, []), "3 given, a threshold of 4"),
    "no threshold": (lambda c: c.set_approver_threshold(0, []), "at least 1"),
    "a model that is not there": (lambda c: c.set_approver_threshold(1, ["voices"]), "there is no model voices"),
    "a root threshold over the number of holders": (lambda c: c.change_root(threshold=4), "3 given, a threshold of 4"),
    "a root holder who is none": (lambda c: c.change_root(remove=["zoe"]), "zoe is no root holder"),
    "a role that is not there": (lambda c: c.renew(["voices"]), "there is no role voices"),
}  # fmt: skip


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_before_anybody_signs(hub: Ceremonial, name: str) -> None:
    change, words = NONSENSE[name]
    with pytest.raises(CeremonyError, match=words):
        hub.begin(change)


def test_a_holder_whose_clock_is_behind_can_sign(hub: Ceremonial) -> None:
    file = hub.begin(lambda c: c.renew(["root", "targets"]))
    assert examine(file, hub.now - timedelta(hours=20)).duties != ()


def test_one_key_never_serves_twice(hub: Ceremonial) -> None:
    key = hub.keys.offline[0].public_key
    with pytest.raises(CeremonyError, match="one key serves twice"):
        hub.examined(hub.begin(lambda c: c.rotate_online(key)))


def test_two_people_of_one_name_are_refused(hub: Ceremonial) -> None:
    with pytest.raises(CeremonyError, match="two keys are named ada"):
        hub.examined(hub.begin(lambda c: c.add_approver(hub.newcomer("ada"), [])))
