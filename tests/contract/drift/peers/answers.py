"""What evidently and River answer. ``python -m tests.contract.drift.peers.answers`` asks them and writes the golden file."""

import subprocess
from pathlib import Path

import msgspec
from msgspec import Struct

from hw_bench.drift import peers
from hw_bench.page import tell
from hw_bench.serving.peers import DEFAULT_FOLDER
from tests.contract.drift.peers.cases import questions

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"
FOLDER = HERE.parents[3] / DEFAULT_FOLDER


class Answers(Struct, frozen=True, kw_only=True):
    versions: dict[str, str]
    binned: dict[str, dict[str, float]]
    """Name of the case → statistic → value."""
    streams: dict[str, list[int]]
    """Name of the stream → places at which a change was seen."""


def ask(folder: Path = FOLDER) -> bytes:
    """Their answers now, as JSON.

    Raises:
        AbsentError: their environment is not there.
    """
    answer = subprocess.run(
        [peers.python(folder), HERE / "child.py"],
        input=msgspec.json.encode(questions()),
        env=peers.environment(),
        capture_output=True,
        check=False,
    )
    if answer.returncode != 0:
        raise AssertionError(answer.stderr.decode(errors="replace"))
    return answer.stdout + b"\n"


def decode(answers: bytes) -> Answers:
    """From JSON."""
    return msgspec.json.decode(answers, type=Answers)


if __name__ == "__main__":
    peers.install(FOLDER, tell)
    GOLDEN.write_bytes(ask())
