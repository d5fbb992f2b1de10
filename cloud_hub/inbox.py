"""A queue between the thread that hears the broker and the one that works: bounded in messages and in bytes."""

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Inbox(Generic[T]):
    """Puts one at a time, takes many at once.

    A full one makes who puts wait for ``patience`` seconds: the broker then holds back what it has not been thanked for. Whoever
    waited in vain is told so, and so is everyone after it at once, until there is room again.
    """

    def __init__(self, *, messages: int, octets: int, patience: float) -> None:
        lock = threading.Lock()
        self._some, self._room = threading.Condition(lock), threading.Condition(lock)
        self._items: deque[T] = deque()
        self._messages, self._octets, self._patience = messages, octets, patience
        self._held = 0
        self._stuck = False

    def put(self, item: T, *, whatever: bool = False) -> bool:
        """Whether it was taken; ``whatever``: also where there is no room."""
        with self._some:
            if self._full(item) and not whatever and not self._wait(item):
                return False
            self._items.append(item)
            self._held += item.size
            if len(self._items) == 1:
                self._some.notify()
            return True

    def _full(self, item: T) -> bool:
        return len(self._items) >= self._messages or self._held + item.size > self._octets

    def _wait(self, item: T) -> bool:
        self._stuck = self._stuck or not self._room.wait_for(lambda: not self._full(item), self._patience)
        return not self._stuck

    def get(self, most: int, timeout: float) -> list[T]:
        """The oldest, up to ``most`` of them, in their order; none where ``timeout`` seconds bring none."""
        with self._some:
            self._some.wait_for(lambda: self._items, timeout)
            items = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            if items:
                self._held -= sum(item.size for item in items)
                self._stuck = False
                self._room.notify()
            return items

    def __len__(self) -> int:
        return len(self._items)
