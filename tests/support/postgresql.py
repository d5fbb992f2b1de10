"""A PostgreSQL of the tests' own, one a process that runs tests, with a database for each that asks."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from hw_bench.errors import AbsentError
from hw_bench.ingest.postgresql import PostgreSQL

MakeDatabase = Callable[[], str]
_number = itertools.count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """Stopped at the end; skipped loudly where it is not installed."""
    try:
        server = PostgreSQL(durable=False)
    except AbsentError as error:
        pytest.skip(str(error))
    with closing(server):
        yield server


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> str:
    """Of an empty database."""
    return postgresql.create(f"test_{os.getpid()}_{next(_number)}")
