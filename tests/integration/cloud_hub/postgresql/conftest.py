"""The unit suite's hub, over PostgreSQL."""

from pathlib import Path

import pytest

from cloud_hub import setup
from tests.support.postgresql import postgresql, postgresql_url
from tests.unit.cloud_hub.conftest import bare_hub, clock, hub, people

__all__ = ["bare_hub", "clock", "home", "hub", "people", "postgresql", "postgresql_url"]


@pytest.fixture
def home(tmp_path: Path, postgresql_url: str) -> Path:
    """Folder of a new hub whose database is PostgreSQL, before its ceremony."""
    folder = tmp_path / "hub"
    setup.create_hub(
        folder, host="127.0.0.1", port=8500, broker_port=8510, open_dashboard=False, database=postgresql_url
    )
    return folder
