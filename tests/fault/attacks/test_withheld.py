"""Nothing at all: requests that are dropped, an agent that hears no answer. It waits, says so, and serves."""

import time

import pytest

from agent.protocol.transfer import ArtifactSource
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub

LONGER_THAN_ONE_FILE = 90.0


def test_a_file_that_never_comes_is_waited_for_until_something_else_is_wanted(
    hub: HostileHub, device: AttackedDevice
) -> None:
    release = hub.next_release()
    hub.release("digits", release)
    hub.tamper = lambda request, honest: () if isinstance(request.source, ArtifactSource) else (honest,)
    director, deployment = device.order(release)
    device.desire(director)

    def waits() -> bool:
        found = device.deployment()
        return bool(found and found.deployment == deployment and found.waiting_for)

    wait_for("the device to say what it waits for", waits, seconds=SECONDS, every=0.05)
    report = device.deployment()
    assert report is not None
    assert report.waiting_for is not None
    assert report.waiting_for.code == "bytes-not-coming"
    assert device.answer() is not None


@pytest.mark.soak
def test_metadata_that_never_comes_is_no_network(hub: HostileHub, device: AttackedDevice) -> None:
    """Eavesdropping and dropping: a whole metadata file has a deadline, and the check is tried again."""
    hub.tamper = lambda _request, _honest: ()
    device.desire(device.order(1)[0])

    def said() -> bool:
        refusal = device.status().state.refusal
        return refusal is not None and refusal.code == "no-network"

    began = time.monotonic()
    wait_for("the device to say it", said, seconds=LONGER_THAN_ONE_FILE, every=0.5)
    assert time.monotonic() - began < LONGER_THAN_ONE_FILE
    assert device.answer() is not None
