"""The libraries to compare drift statistics with, in an environment of their own: they bring pandas and more with them."""

import os
from collections.abc import Callable
from pathlib import Path

from hw_bench.serving import peers
from hw_bench.serving.peers import DEFAULT_FOLDER, Peer

DRIFT = Peer(
    name="drift",
    packages=(
        "evidently==0.7.23",
        "river==0.26.1",
        "whylogs==1.6.4",
        # evidently 0.7.23 does not import with pandas 3.
        "pandas==2.3.3",
        "numpy==2.2.6",
    ),
    made_by="drift --install",
)

QUIET = {"DO_NOT_TRACK": "1", "WHYLOGS_NO_ANALYTICS": "True", "PYTHONWARNINGS": "ignore"}
"""Both libraries count their users over the network unless they are told not to."""


def python(folder: Path = DEFAULT_FOLDER) -> Path:
    """The environment's interpreter.

    Raises:
        AbsentError: it was never made, or from other versions.
    """
    return peers.environment(folder, DRIFT) / "bin" / "python"


def install(folder: Path, tell: Callable[[str], None]) -> None:
    """Make it, if it is not there; about a minute, 1.1 GB.

    Raises:
        MeasurementError: pip failed; the text carries its last words.
    """
    peers.install(folder, tell, (DRIFT,))


def environment() -> dict[str, str]:
    """Of a process in it: nothing of ours is on its path, and nothing is sent anywhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | QUIET
