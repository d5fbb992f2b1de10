"""Freeze: what was valid once is all that this device is ever given again, or nothing is."""

import time
from datetime import UTC, datetime, timedelta

from cloud_hub.signing.documents import TIMESTAMP_LIFE
from tests.fault.attacks import forging
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub, instead_of


def test_a_timestamp_that_is_never_renewed(hub: HostileHub, device: AttackedDevice) -> None:
    """Played again and again, it is good until it expires; then the device says so, and serves on."""
    ends = datetime.now(UTC) + timedelta(seconds=2)
    hub.now = ends - TIMESTAMP_LIFE
    hub.repository.refresh_timestamp()
    device.commits(1)
    time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds() + 1))
    reason = device.refuses(device.order(1)[0])
    assert reason.code == "expired"
    assert "timestamp" in reason.text


def test_an_expired_snapshot(hub: HostileHub, device: AttackedDevice) -> None:
    honest = dict(hub.store.files)
    forging.publish_snapshot(hub, lambda signed: setattr(signed, "expires", forging.yesterday()))
    assert device.refuses(device.order(1)[0]).code == "expired"
    hub.store.files = honest
    hub.repository.sign_anew()
    hub.repository.sign_anew()


def test_a_models_role_that_its_approvers_no_longer_renew(hub: HostileHub, device: AttackedDevice) -> None:
    forging.list_role(hub, lambda role: setattr(role, "expires", forging.yesterday()), "ada", "ben")
    director, deployment = device.order(1)
    assert device.rejects(director, deployment).code == "expired"
    forging.list_role(hub, lambda _: None, "ada", "ben")


def test_an_expired_directors_document(hub: HostileHub, device: AttackedDevice) -> None:
    director = hub.direct(1, device=device.name, days=-1, deployment=hub.next_deployment())
    reason = device.refuses(director)
    assert reason.code == "expired"
    assert "director's document expired" in reason.text


def test_a_file_that_the_hub_withholds(hub: HostileHub, device: AttackedDevice) -> None:
    hub.repository.sign_anew()
    name = f"{hub.repository.versions()['snapshot']}.snapshot.json"
    hub.tamper = instead_of(name, None)
    assert device.refuses(device.order(1)[0]).code == "missing-metadata"
