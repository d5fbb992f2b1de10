"""The same hub and people as in the unit tests."""

from tests.unit.cloud_hub.conftest import bare_hub, clock, home, hub, people

__all__ = ["bare_hub", "clock", "home", "hub", "people"]
