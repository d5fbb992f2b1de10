import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.power.device import Forge, make_releases, make_state


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("power-releases")
    make_releases(folder)
    return folder


@pytest.fixture(scope="session")
def committed_1(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State folder of a device that has committed release 1 and is stopped; copy it."""
    folder = tmp_path_factory.mktemp("power-state")
    make_state(folder, releases)
    return folder


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    with Forge() as made:
        yield made


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """On a file system in memory: what a killed process leaves there is what it leaves anywhere, and it is quick."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)
