"""One hub with a fleet to look at, and one browser, for all the tests of the pages."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import PROGRAM, Browser, browser
from tests.support.picture_hub import picture_hub, served


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("pictures")
    with picture_hub(folder, days=7) as hub, served(hub) as found:
        yield found


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"needs {PROGRAM}, which shows the pages")
    with browser() as found:
        yield found
