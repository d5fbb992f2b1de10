"""The children of the test's process that are the test's own: not those of fixtures that live longer than a test.

A suite's shared broker or device is a child too, of whichever process runs the suite's tests.
"""

import contextlib

import psutil

_elders: set[int] = set()


def a_test_begins() -> None:
    """Called before the fixtures of each test are made (``tests/conftest.py``)."""
    _elders.clear()
    _elders.update(child.pid for child in psutil.Process().children())


def own_children() -> list[psutil.Process]:
    """Direct children that came since the test began."""
    return [child for child in psutil.Process().children() if child.pid not in _elders]


def children_running(pid: int, module: str) -> list[psutil.Process]:
    """Descendants of ``pid`` that run ``module``; one that ends while it is looked at is none."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # also a zombie
            if module in child.cmdline():
                found.append(child)
    return found
