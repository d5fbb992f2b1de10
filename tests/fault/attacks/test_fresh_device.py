"""A device that has seen nothing yet: what it was told at its enrolment is all that it can compare with."""

from collections.abc import Callable

from tests.fault.attacks import forging
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub


def test_a_repository_from_before_its_enrolment(
    hub: HostileHub, fresh_device: Callable[[str], AttackedDevice]
) -> None:
    """The whole of it, correctly signed and not expired; and then a model's role alone, by a stolen online key."""
    old, old_role = dict(hub.store.files), hub.repository.published("digits")
    forging.list_role(hub, lambda _: None, "ada", "ben")
    honest = dict(hub.store.files)
    device = fresh_device("newborn")
    hub.store.files = old
    assert device.refuses(device.order(1)[0]).code == "rollback-attack"
    assert "digits" not in device.models(), "nothing was installed"

    hub.store.files = dict(honest)
    hub.list_unchecked("digits", old_role)
    director, deployment = device.order(1)
    assert device.rejects(director, deployment).code == "rollback-attack"

    hub.store.files = honest
    hub.repository.sign_anew()
    hub.repository.sign_anew()
    device.commits(1)
    device.stop()
    minimum = {mark.role for mark in device.trust().marks if mark.keys == ""}
    assert {"root", "targets", "snapshot", "timestamp", "digits"} <= minimum
