"""Rollback: something older than this device has seen, offered as new."""

from collections.abc import Iterator
from contextlib import contextmanager

from cloud_hub.signing.online import meta_file
from tests.fault.attacks import forging
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub


@contextmanager
def playing_again(hub: HostileHub, files: dict[str, bytes]) -> Iterator[None]:
    """Serve what was kept; afterwards what was there."""
    newest, hub.store.files = hub.store.files, dict(files)
    try:
        yield
    finally:
        hub.store.files = newest


def test_the_whole_repository(hub: HostileHub, device: AttackedDevice) -> None:
    old = dict(hub.store.files)
    hub.repository.sign_anew()
    device.commits(1)
    with playing_again(hub, old):
        assert device.refuses(device.order(1)[0]).code == "rollback-attack"


def test_the_snapshot_by_a_stolen_online_key(hub: HostileHub, device: AttackedDevice) -> None:
    version = hub.repository.versions()["snapshot"]
    old = hub.repository.published("snapshot")
    hub.repository.sign_anew()
    device.commits(1)
    newest = dict(hub.store.files)
    forging.publish_timestamp(hub, lambda signed: setattr(signed, "snapshot_meta", meta_file(version, old)))
    assert device.refuses(device.order(1)[0]).code == "rollback-attack"
    hub.store.files = newest
    hub.repository.refresh_timestamp()


def test_the_top_level_targets_by_a_stolen_online_key(hub: HostileHub, device: AttackedDevice) -> None:
    version, old = hub.repository.versions()["targets"], hub.repository.published("targets")
    forging.publish_targets(hub, lambda _: None)
    device.commits(1)
    newest, data = hub.repository.versions()["targets"], hub.repository.published("targets")
    hub.repository.publish_role("targets", version, old)
    assert device.refuses(device.order(1)[0]).code == "rollback-attack"
    hub.repository.publish_role("targets", newest, data)


def test_a_models_role_by_a_stolen_online_key(hub: HostileHub, device: AttackedDevice) -> None:
    old = hub.repository.published("digits")
    forging.list_role(hub, lambda _: None, "ada", "ben")
    newest = hub.repository.published("digits")
    device.commits(1)
    hub.list_unchecked("digits", old)
    assert device.refuses(device.order(1)[0]).code == "rollback-attack"
    hub.list_unchecked("digits", newest)


def test_the_directors_document(hub: HostileHub, device: AttackedDevice) -> None:
    old, _ = device.order(1)
    device.commits(1)
    reason = device.refuses(old)
    assert reason.code == "rollback-attack"
    assert f"version {hub.director_version - 1} is older than {hub.director_version}" in reason.text


def test_another_directors_document_under_the_same_version(hub: HostileHub, device: AttackedDevice) -> None:
    device.commits(1)
    other = hub.direct(1, device=device.name, version=hub.director_version, deployment=hub.next_deployment())
    assert device.refuses(other).code == "rollback-attack"


def test_after_a_power_loss_that_emptied_the_metadata(hub: HostileHub, device: AttackedDevice) -> None:
    """python-tuf alone takes the old repository here; the marks do not."""
    first = dict(hub.store.files)
    for _ in range(2):
        hub.repository.sign_anew()
        device.commits(1)
    device.stop()
    device.lose("timestamp.json", "snapshot.json")
    with playing_again(hub, first):
        device.start()
        assert device.refuses(device.order(1)[0]).code == "rollback-attack"


def test_hiding_a_newer_root_from_a_device_that_lost_its_metadata(
    hub: HostileHub, device: AttackedDevice
) -> None:
    old = dict(hub.store.files)
    hub.rotate_online()
    device.commits(1)
    device.stop()
    device.lose(*device.trust().metadata)
    with playing_again(hub, old):
        device.start()
        assert device.refuses(device.order(1)[0]).code == "rollback-attack"
