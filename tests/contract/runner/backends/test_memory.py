"""What a loaded model takes, and that running it does not take more and more."""

import json
import subprocess
import sys

from tests.contract.runner.backends.subject import Subject

RUNS = 1_000


def test_memory_after_load_is_bounded_and_runs_of_any_batch_do_not_add_to_it(subject: Subject) -> None:
    """Bounds are generous; the figures are measured in hw_bench."""
    child = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.contract.runner.backends.memory_child",
            subject.support.runtime,
            subject.path("heavy"),
            str(RUNS),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    loaded, half_way, after = json.loads(child.stdout)
    assert loaded < 160  # a model of 4 MiB, and the largest batch once
    assert half_way < loaded + 16
    assert after < half_way + 4
