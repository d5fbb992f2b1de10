from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.store.database import Database
from agent.store.schema import migrate
from agent.store.writer import Writer


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A real telemetry database."""
    migrate(tmp_path)
    writer = Writer()
    one = await Database.open(tmp_path / "telemetry.db", writer)
    yield one
    await one.close()
    await writer.close()
