"""Words of the pages that must hold for whatever a device says."""

import pytest

from cloud_hub.dashboard import words


@pytest.mark.parametrize("time", [1e300, float("inf"), 253_402_300_800.0])
def test_a_time_beyond_the_calendar_is_its_end(time: float) -> None:
    assert words.minute(time) == "9999-12-31 23:59"
    assert words.day(time) == "9999-12-31"
    assert words.stamp(time) == "9999-12-31 23:59:59 UTC"
