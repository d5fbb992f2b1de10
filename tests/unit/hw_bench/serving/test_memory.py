import os

import pytest

from hw_bench.serving.memory import memory


def test_the_sum_over_processes() -> None:
    pid = os.getpid()
    once, twice = memory([pid]), memory([pid, pid])
    assert 0 < once.pss <= once.rss
    assert twice.rss == pytest.approx(2 * once.rss, rel=0.05)


def test_a_process_that_is_gone_is_no_zero() -> None:
    with pytest.raises(FileNotFoundError):
        memory([2**22 + 1])
