"""Roll-ups and retention on PostgreSQL: the unit suite's own tests, over another database."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from cloud_hub.database import Database
from tests.unit.cloud_hub.telemetry.test_hostile_windows import (
    roll_ups,
    test_a_window_that_nobody_foresaw_is_set_aside_alone,
    test_more_repeated_rows_than_rows_are_not_added,
    test_slices_are_kept_up_to_a_number_and_the_rest_is_counted,
    test_words_of_a_device_are_made_fit_to_be_stored,
)
from tests.unit.cloud_hub.telemetry.test_retention import (
    test_raw_windows_go_roll_ups_stay_and_a_duplicate_is_still_one,
)
from tests.unit.cloud_hub.telemetry.test_rollups import (
    test_a_batch_that_another_process_took_changes_nothing,
    test_a_window_that_comes_while_a_day_is_made_has_it_made_once_more,
    test_newest_goes_by_sequence_and_a_new_epoch_takes_over,
)

__all__ = [
    "roll_ups",
    "test_a_batch_that_another_process_took_changes_nothing",
    "test_a_window_that_comes_while_a_day_is_made_has_it_made_once_more",
    "test_a_window_that_nobody_foresaw_is_set_aside_alone",
    "test_more_repeated_rows_than_rows_are_not_added",
    "test_newest_goes_by_sequence_and_a_new_epoch_takes_over",
    "test_raw_windows_go_roll_ups_stay_and_a_duplicate_is_still_one",
    "test_slices_are_kept_up_to_a_number_and_the_rest_is_counted",
    "test_words_of_a_device_are_made_fit_to_be_stored",
]


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    with closing(Database(postgresql_url)) as made:
        made.migrate()
        yield made
