"""The one thread that writes to databases."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agent.store.errors import StoreClosedError

T = TypeVar("T")


class Writer:
    """Runs blocking work, one piece after the other, on a thread of its own.

    Work that has begun is finished even if its caller is cancelled: a transaction is never cut in half.
    """

    def __init__(self, name: str = "store-writer") -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """Await ``work()``; its error is raised here.

        Raises:
            StoreClosedError: after :meth:`close`.
        """
        if self._closed:
            raise StoreClosedError("the store's writer is closed")
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def close(self) -> None:
        """Finish what was given, then end the thread."""
        self._closed = True
        await asyncio.to_thread(self._executor.shutdown)
