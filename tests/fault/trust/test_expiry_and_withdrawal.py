"""What the verifier tells about roles that will expire and releases that were taken back."""

from datetime import timedelta

from tuf.api.metadata import Metadata, Targets

from agent.protocol.state import ModelRelease
from tests.fault.trust.hub_simulator import Device, HubSimulator

ONE, TWO = ModelRelease(model="digits", release=1), ModelRelease(model="digits", release=2)


def withdraw(hub: HubSimulator, release: int, *, model: str = "digits") -> None:
    """Two approvers sign a role without the release."""
    role = hub.published_role(model)
    role.version += 1
    role.targets = {path: file for path, file in role.targets.items() if f"/{release}/" not in path}
    hub.repository.publish(model, hub.sign_role(role, "ada", "cyd"))


def test_every_role_that_is_relied_on_says_until_when(hub: HubSimulator, device: Device) -> None:
    result = device.check(hub, hub.direct(1, days=21))
    expiry = {role.role: role.expires for role in result.expiry}
    assert set(expiry) == {"root", "timestamp", "snapshot", "targets", "digits", "director"}
    for role, file in {
        "root": "root",
        "timestamp": "timestamp",
        "snapshot": "2.snapshot",
        "targets": "1.targets",
    }.items():
        assert expiry[role] == Metadata.from_bytes(hub.store.files[f"{file}.json"]).signed.expires.timestamp()
    assert expiry["digits"] == hub.published_role().expires.timestamp()
    assert expiry["director"] == (hub.now + timedelta(days=21)).timestamp()


def test_an_expired_role_is_named_with_its_time_although_nothing_was_taken(
    hub: HubSimulator, device: Device
) -> None:
    device.check(hub, hub.direct(1))
    hub.now += timedelta(days=2)
    result = device.check(hub, hub.direct(1))
    assert result.refusal is not None
    assert result.refusal.code == "expired"
    expiry = {role.role: role.expires for role in result.expiry}
    assert expiry["timestamp"] <= hub.now.timestamp() < expiry["root"]


def test_an_expired_models_role_blocks_its_releases_and_no_other_models() -> None:
    hub = HubSimulator(models=("digits", "faces"))
    device = Device(root=hub.store.files["1.root.json"])
    hub.approve("digits", 1)
    hub.now += timedelta(days=60)
    hub.approve("faces", 1)
    hub.now += timedelta(days=35)
    hub.repository.sign_anew()
    result = device.check(hub, hub.direct_all({"digits": 1, "faces": 1}))
    assert result.refusal is None
    assert [taken.model for taken in result.assignments] == ["faces"]
    assert [(each.model, each.reason.code) for each in result.refused] == [("digits", "expired")]


def test_what_is_installed_and_not_listed_any_more_was_withdrawn(hub: HubSimulator, device: Device) -> None:
    hub.approve("digits", 2)
    device.installed = (TWO, ONE)
    assert device.check(hub, hub.direct(2)).withdrawn == ()
    withdraw(hub, 2)
    result = device.check(hub, hub.direct(1))
    assert result.withdrawn == (TWO,)
    assert [taken.release for taken in result.assignments] == [1]


def test_an_order_for_a_withdrawn_release_that_is_installed_says_so(
    hub: HubSimulator, device: Device
) -> None:
    hub.approve("digits", 2)
    device.installed = (TWO,)
    withdraw(hub, 2)
    (refused,) = device.check(hub, hub.direct(2)).refused
    assert (refused.reason.code, refused.reason.text) == (
        "withdrawn", "digits release 2 was withdrawn by its approvers",
    )  # fmt: skip


def test_a_model_that_the_director_does_not_order_is_looked_at_too(hub: HubSimulator, device: Device) -> None:
    withdraw(hub, 1)
    device.installed = (ONE,)
    result = device.check(hub, hub.direct_all({}))
    assert result.refusal is None
    assert result.withdrawn == (ONE,)


def test_a_stolen_hub_can_not_withdraw(hub: HubSimulator, device: Device) -> None:
    """A role that can't be had, that approvers did not sign, or that they signed for another model says nothing."""
    device.installed = (ONE,)
    role = hub.published_role()
    role.version += 1
    role.targets = {}
    forged = hub.sign_role(role, "ada")
    hub.list_unchecked("digits", forged)
    assert device.check(hub, hub.direct_all({})).withdrawn == ()


def test_another_models_role_in_this_ones_place_withdraws_nothing() -> None:
    hub = HubSimulator(models=("digits", "faces"))
    device = Device(root=hub.store.files["1.root.json"], installed=(ONE,))
    hub.approve("digits", 1)
    hub.approve("faces", 1)
    hub.approve("faces", 2)
    hub.list_unchecked("digits", hub.repository.published("faces"))
    assert device.check(hub, hub.direct_all({})).withdrawn == ()


def test_a_model_that_the_root_holders_removed_takes_its_releases_with_it(
    hub: HubSimulator, device: Device
) -> None:
    targets = Metadata[Targets].from_bytes(hub.store.files["1.targets.json"])
    assert targets.signed.delegations is not None
    assert targets.signed.delegations.roles is not None
    del targets.signed.delegations.roles["digits"]
    targets.signed.version += 1
    targets.signatures.clear()
    for holder in hub.keys.offline:
        targets.sign(holder, append=True)
    hub.repository.publish_role("targets", targets.signed.version, targets.to_bytes())
    device.installed = (ONE,)
    assert device.check(hub, hub.direct_all({})).withdrawn == (ONE,)
