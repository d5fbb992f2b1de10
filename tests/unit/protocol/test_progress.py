import pytest

from agent.protocol.progress import duration, fetching, size
from agent.protocol.state import TransferProgress


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (999.4, "999 B"), (1000, "1 kB"), (214_000, "214 kB"), (9_800_000, "9.8 MB"),
     (12_345_678_901, "12.3 GB"), (5e16, "50000 TB")],
)  # fmt: skip
def test_sizes(count: float, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (31.3, "31 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h 0 min"),
     (9000, "2 h 30 min"), (1e9, "more than 100 h")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (
            TransferProgress(
                done_bytes=3_100_000, total_bytes=9_800_000, bytes_per_second=214e3, eta_seconds=31.3, way="http"
            ),
            "fetching 3.1 of 9.8 MB, 214 kB/s, 31 s left, over http",
        ),
        (TransferProgress(done_bytes=0, total_bytes=950), "fetching 0 of 950 B"),
        (
            TransferProgress(done_bytes=5, total_bytes=5, bytes_per_second=0.0, eta_seconds=0.0, way="bundle"),
            "fetching 5 of 5 B, 0 B/s, from a bundle",
        ),
    ],
)  # fmt: skip
def test_progress_in_words(progress: TransferProgress, words: str) -> None:
    assert fetching(progress) == words
