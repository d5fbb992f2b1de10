"""One fleet, one storm; what is left of it is looked at by each test."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.telemetry.storm import Storm
from tests.support.digits_releases import teacher_folder
from tests.support.fleet import first_release
from tests.support.mosquitto import MOSQUITTO
from tests.support.mosquitto_fleet import MosquittoFleet
from tests.support.moving_clock import LIBRARY

__all__ = ["first_release", "teacher_folder"]

STORM_SECONDS = {False: 20.0, True: 1_800.0}
"""By whether it is the long one."""


@pytest.fixture(
    scope="module", params=[False, pytest.param(True, marks=pytest.mark.soak)], ids=["short", "half-an-hour"]
)
def storm(
    request: pytest.FixtureRequest, first_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storm]:
    """The storm is over, cameras are off, and every outbox is empty again. ``EDGEWARD_SEED`` repeats one."""
    for tool, package in ((MOSQUITTO, "mosquitto"), (LIBRARY, "faketime")):
        if tool is None:
            pytest.skip(
                f"MISSING TOOL: {package} (apt install {package}); the storm over telemetry is not run"
            )
    seed = int(os.environ.get("EDGEWARD_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
    sys.stderr.write(f"seed of the storm: EDGEWARD_SEED={seed}\n")  # shown where a test fails
    fleet = MosquittoFleet(tmp_path_factory.mktemp("storm"))
    made = Storm(fleet, seed)
    try:
        fleet.make_hub()
        fleet.publish(first_release, 1)
        made.make(devices=2)
        made.rage(STORM_SECONDS[request.param])
        sheltered = made.agent(made.sheltered)
        made.take_the_hub_away(until=lambda: made.dropped(sheltered) >= 5)
        made.calm()
        yield made
    finally:
        made.end()
