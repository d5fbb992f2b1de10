"""Roll-ups and retention on PostgreSQL: the unit suite's own tests, over another database."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from cloud_hub.database import Database
from tests.unit.cloud_hub.telemetry.test_retention import (
    test_raw_windows_go_roll_ups_stay_and_a_duplicate_is_still_one,
)
from tests.unit.cloud_hub.telemetry.test_rollups import (
    test_a_batch_that_another_process_took_changes_nothing,
    test_a_window_that_comes_while_a_day_is_made_has_it_made_once_more,
    test_newest_goes_by_sequence_and_a_new_epoch_takes_over,
)

__all__ = [
    "test_a_batch_that_another_process_took_changes_nothing",
    "test_a_window_that_comes_while_a_day_is_made_has_it_made_once_more",
    "test_newest_goes_by_sequence_and_a_new_epoch_takes_over",
    "test_raw_windows_go_roll_ups_stay_and_a_duplicate_is_still_one",
]


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    with closing(Database(postgresql_url)) as made:
        made.migrate()
        yield made
