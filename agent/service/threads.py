"""Work in a thread that nobody walks away from: a cancelled caller waits for its end, so that nobody works behind the next one's back."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(work: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
    """Run ``work`` in a thread.

    Args:
        work: may block.
        undo: given what ``work`` returned where a cancelled caller can't take it any more (a file that was opened).
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await ended(task)
        if undo is not None and not task.cancelled() and task.exception() is None:
            undo(task.result())
        raise


async def ended(task: asyncio.Future[T]) -> None:
    """Wait until ``task`` is over, however often the caller is cancelled meanwhile; its error is taken as seen."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
