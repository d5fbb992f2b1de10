"""The same device by a bundle and online, in both orders: the newer one wins, and neither way spoils the other."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from agent.protocol.verification import FetchedMetadata, FetchMetadata, VerifyRequest, VerifyResult
from agent.trust.verify import verify
from tests.fault.trust.hub_simulator import DEVICE, Device, HubSimulator
from tests.support.bundles import envelope_of, index_of


class Stick:
    """What an export put on it."""

    def __init__(self, hub: HubSimulator, *, release: int = 1, days: int = 30) -> None:
        exported = hub.repository.export(hub.models, timedelta(days=days))
        self.files: Mapping[str, bytes] = exported.files
        self.director = hub.direct(release, days=days)
        listed = {("metadata", name): data for name, data in exported.files.items()}
        index = index_of(
            listed,
            devices=(DEVICE,),
            created=hub.now.timestamp(),
            expires=exported.expires.timestamp(),
        )
        self.envelope = envelope_of(index, hub.keys.director)
        self.asked: list[str] = []

    def answer(self, question: FetchMetadata) -> FetchedMetadata:
        self.asked.append(question.name)
        return FetchedMetadata(data=self.files.get(question.name))


def hand_in(device: Device, stick: Stick, hub: HubSimulator) -> VerifyResult:
    return check(device, hub, stick.director, stick.answer, stick.envelope)


def online(device: Device, hub: HubSimulator, director: bytes) -> VerifyResult:
    return check(device, hub, director, lambda question: FetchedMetadata(data=hub.store.get(question.name)))


def check(
    device: Device,
    hub: HubSimulator,
    director: bytes,
    answer: Callable[[FetchMetadata], FetchedMetadata],
    bundle: bytes | None = None,
) -> VerifyResult:
    """What the child does, in this process: what is between the two is tested elsewhere, and costs a second each time."""
    request = VerifyRequest(
        device=device.name,
        root=device.root,
        metadata=device.metadata,
        marks=device.marks,
        now=hub.now.timestamp(),
        director=director,
        bundle=bundle,
    )
    result = verify(request, lambda name, most: answer(FetchMetadata(name=name, maximum_bytes=most)))
    device.metadata = {**device.metadata, **result.metadata}
    device.marks = result.marks
    return result


def code(result: VerifyResult) -> str | None:
    return None if result.refusal is None else result.refusal.code


def test_a_stick_is_good_for_thirty_days_and_no_longer(hub: HubSimulator, device: Device) -> None:
    stick = Stick(hub)
    hub.now += timedelta(days=29)
    assert code(hand_in(device, stick, hub)) is None
    hub.now += timedelta(days=2)
    assert code(hand_in(Device(root=device.root), stick, hub)) == "expired"


def test_what_took_a_stick_goes_on_online(hub: HubSimulator, device: Device) -> None:
    stick = Stick(hub)
    assert code(hand_in(device, stick, hub)) is None
    assert code(online(device, hub, stick.director)) is None
    hub.now += timedelta(days=20)
    hub.repository.refresh_timestamp()
    hub.approve("digits", 2)
    assert [each.release for each in online(device, hub, hub.direct(2)).assignments] == [2]


def test_what_is_online_takes_a_newer_stick_and_goes_on_online(hub: HubSimulator, device: Device) -> None:
    assert code(online(device, hub, hub.direct())) is None
    hub.approve("digits", 2)
    stick = Stick(hub, release=2)
    result = hand_in(device, stick, hub)
    assert [each.release for each in result.assignments] == [2]
    hub.now += timedelta(hours=1)
    hub.repository.refresh_timestamp()
    assert code(online(device, hub, stick.director)) is None


def test_what_has_seen_newer_refuses_an_older_stick(hub: HubSimulator, device: Device) -> None:
    old = Stick(hub)
    assert (
        code(online(device, hub, old.director)) is None
    )  # online since: the timestamp after the one on the stick
    assert code(hand_in(device, old, hub)) == "rollback-attack"
    assert code(online(device, hub, old.director)) is None


def test_an_older_stick_after_a_newer_one_is_refused(hub: HubSimulator, device: Device) -> None:
    old, new = Stick(hub), Stick(hub)
    assert code(hand_in(device, new, hub)) is None
    assert code(hand_in(device, old, hub)) == "rollback-attack"
    assert code(hand_in(device, new, hub)) is None


def test_a_long_lived_timestamp_is_on_the_stick_alone(hub: HubSimulator, device: Device) -> None:
    """A frozen hub must show within a day online, whatever was exported."""
    Stick(hub)
    hub.now += timedelta(days=2)
    assert code(online(device, hub, hub.direct())) == "expired"


def test_a_stick_carries_the_roles_of_models_that_it_does_not_order() -> None:
    """What a device has of them may have been withdrawn since; but only what it orders decides how long it lives."""
    two = HubSimulator(models=("digits", "faces"))
    two.approve("digits", 1)
    two.approve("faces", 1)
    stick = Stick(two)
    assert {"1.faces.json", "2.faces.json"} & set(stick.files) == {"2.faces.json"}
    exported = two.repository.export(["digits"], timedelta(days=365))
    assert exported.first == "digits"


def test_a_device_that_missed_roots_finds_them_on_the_stick(hub: HubSimulator, device: Device) -> None:
    hub.rotate_online()
    hub.rotate_online()
    stick = Stick(hub)
    assert code(hand_in(device, stick, hub)) is None
    assert stick.asked[:2] == ["2.root.json", "3.root.json"]
