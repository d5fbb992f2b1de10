"""Keeps ``telemetry.db`` usable: opens it, sets it aside when it is damaged, waits for a disk that refuses."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from agent.store.database import Database
from agent.store.errors import StoreError

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between attempts; the last one repeats."""


class DatabaseKeeper:
    """Brings one database back whenever it is in trouble.

    Args:
        database: not opened yet, or in use.
        prepare: makes, migrates or sets it aside; returns what it had to repair, in words.
    """

    def __init__(self, database: Database, prepare: Callable[[], Awaitable[str | None]]) -> None:
        self._database = database
        self._prepare = prepare

    @property
    def problem(self) -> str | None:
        """Why the database can't be used now."""
        return self._database.problem

    async def bring(self) -> str | None:
        """One attempt to have it open; returns what had to be repaired. A failure is in :attr:`problem`."""
        await self._database.let_go(self._database.problem or "being opened")
        try:
            note = await self._prepare()
            await self._database.reopen()
        except (StoreError, sqlite3.Error, OSError) as error:
            await self._database.let_go(str(error))
            log.warning("telemetry database can't be used; tried again", extra={"why": str(error)})
            return None
        return note

    async def run(self, back: Callable[[str | None], Coroutine[Any, Any, None]]) -> None:
        """Bring it back after each trouble until cancelled; ``back`` is then told what had to be repaired."""
        while True:
            await self._database.trouble.wait()
            attempt = 0
            while True:
                note = await self.bring()
                if self._database.problem is None:
                    break
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
            await back(note)
