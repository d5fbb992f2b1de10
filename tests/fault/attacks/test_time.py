"""Time that a stolen online key signs: believed up to the root's expiry, never running back, and gone with the key."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tuf.api.metadata import Metadata, Root, Timestamp

from tests.fault.attacks import forging
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub


def issued(moment: datetime) -> Callable[[Timestamp], None]:
    """A timestamp that says it was signed then."""

    def change(signed: Timestamp) -> None:
        signed.unrecognized_fields["issued"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        signed.expires = max(signed.expires, (moment + timedelta(days=1)).replace(microsecond=0))

    return change


def test_a_time_far_ahead_and_back(hub: HostileHub, fresh_device: Callable[[str], AttackedDevice]) -> None:
    """What has expired by then installs nothing more; what serves, serves; a root with another online key ends it."""
    device = fresh_device("cam-ahead")
    device.commits(1)
    forging.publish_timestamp(hub, issued(datetime.now(UTC) + timedelta(days=3650)))
    device.desire(device.order(1)[0])
    assert device.refuses(device.order(1)[0]).code == "expired"
    forging.publish_timestamp(hub, issued(datetime.now(UTC) - timedelta(days=3650)))
    assert device.refuses(device.order(1)[0]).code == "expired"
    assert device.answer() == 1
    root = Metadata[Root].from_bytes(hub.store.files["root.json"]).signed
    assert signed_time(device) == root.expires.timestamp()
    hub.rotate_online()
    device.commits(1)
    assert signed_time(device) <= datetime.now(UTC).timestamp()
    assert "Traceback" not in device.log()


def signed_time(device: AttackedDevice) -> float:
    """The newest hub-signed time that the device believes, Unix seconds."""
    report = device.status().state.trust
    assert report is not None
    return report.hub_time
