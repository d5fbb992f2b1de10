from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.protocol.state import Phase
from tests.fault.fleet.errors import FAULTS
from tests.fault.fleet.matrix import RUNNING, Matrix, matrix
from tests.support.digits_releases import teacher_folder
from tests.support.fleet import first_release, slow_release

__all__ = ["first_release", "slow_release", "teacher_folder"]


@pytest.fixture(scope="session")
def ended(
    first_release: Path, slow_release: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Matrix]:
    """Devices killed in every phase, one of them for ever, and devices that met every error; all have ended since.

    Of those killed for ever the one is here that is resumed most often; all are in the soak run.
    """
    with matrix(
        tmp_path_factory.mktemp("matrix"),
        (first_release, slow_release),
        killed=RUNNING,
        killed_for_ever=[Phase.READY],
        faults=list(FAULTS),
    ) as made:
        yield made
