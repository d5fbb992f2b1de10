"""A hub and a device that was enrolled with it."""

import pytest

from tests.fault.trust.hub_simulator import Device, HubSimulator


@pytest.fixture
def hub() -> HubSimulator:
    """A hub with release 1 of ``digits`` approved and published."""
    hub = HubSimulator()
    hub.approve("digits", 1)
    return hub


@pytest.fixture
def device(hub: HubSimulator) -> Device:
    """A device that was enrolled and has checked nothing yet."""
    return Device(root=hub.store.files["1.root.json"])
