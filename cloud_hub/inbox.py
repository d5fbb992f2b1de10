"""A queue between the thread that hears the broker and the one that works: bounded in messages and in bytes."""

import threading
import time
from collections import deque
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Inbox(Generic[T]):
    """Puts one at a time, takes many at once. What does not fit is not taken: the caller counts it."""

    def __init__(self, *, messages: int, octets: int) -> None:
        self._room = threading.Condition(threading.Lock())
        self._items: deque[T] = deque()
        self._messages, self._octets = messages, octets
        self._held = 0

    def put(self, item: T, *, whatever: bool = False) -> bool:
        """Whether it was taken; ``whatever``: also where there is no room."""
        with self._room:
            full = len(self._items) >= self._messages or self._held + item.size > self._octets
            if full and not whatever:
                return False
            self._items.append(item)
            self._held += item.size
            if len(self._items) == 1:
                self._room.notify()
            return True

    def get(self, most: int, timeout: float) -> list[T]:
        """The oldest, up to ``most`` of them, in their order; none where ``timeout`` seconds bring none."""
        deadline = time.monotonic() + timeout
        with self._room:
            while not self._items:
                left = deadline - time.monotonic()
                if left <= 0 or not self._room.wait(left):
                    break
            items = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._held -= sum(item.size for item in items)
            return items

    def __len__(self) -> int:
        return len(self._items)
