"""Roll-ups, retention, requests and notices on PostgreSQL: the unit suite's own tests."""

from collections.abc import Iterator

import pytest

from cloud_hub.database import Database
from tests.unit.cloud_hub.retraining.test_notices import (
    test_labels_that_contradict_the_estimate_are_noticed,
)
from tests.unit.cloud_hub.retraining.test_requests import (
    signed,
    story,
    test_it_ends_when_the_fleet_is_calm_and_opens_anew_when_it_is_not,
)
from tests.unit.cloud_hub.telemetry.test_retention import (
    test_a_window_that_no_roll_up_holds_is_never_forgotten,
    test_roll_ups_go_after_their_own_time,
)

__all__ = [
    "signed",
    "story",
    "test_a_window_that_no_roll_up_holds_is_never_forgotten",
    "test_it_ends_when_the_fleet_is_calm_and_opens_anew_when_it_is_not",
    "test_labels_that_contradict_the_estimate_are_noticed",
    "test_roll_ups_go_after_their_own_time",
]


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    database = Database(postgresql_url)
    database.migrate()
    yield database
    database.close()
