from msgspec.structs import replace

from agent.protocol.drift import DriftWindow, Verdict
from agent.service.drift_memory import RELEASES, DriftMemory

WINDOW = DriftWindow(
    model="digits",
    release=2,
    deployment="d1",
    artifact="a" * 64,
    opened=1.0,
    closed=2.0,
    rows=0,
    signals={},
    verdict=Verdict(
        level="insufficient data",
        rows=0,
        correction="benjamini-hochberg",
        alpha=0.01,
        judged=0,
        moved_most=(),
        reason="Insufficient data.",
    ),
)


def test_the_newest_state_of_each_slice_is_kept() -> None:
    memory = DriftMemory()
    memory.load([("digits", 2, "", b"old"), ("digits", 2, "site=north", b"north"), ("digits", 1, "", b"one")])
    memory.seen(replace(WINDOW, slice=None), b"new")
    memory.seen(replace(WINDOW, slice="site=south"), b"south")
    memory.seen(replace(WINDOW, slice="site=north"), b"")  # incomplete: it has none
    assert memory.states("digits", 2) == {"": b"new", "site=north": b"north", "site=south": b"south"}
    assert memory.states("digits", 1) == {"": b"one"}
    assert memory.states("faces", 2) == {}


def test_what_was_read_from_disk_does_not_replace_what_came_since() -> None:
    memory = DriftMemory()
    memory.seen(replace(WINDOW, slice=None), b"new")
    memory.load([("digits", 2, "", b"old")])
    assert memory.states("digits", 2) == {"": b"new"}


def test_releases_are_bounded() -> None:
    memory = DriftMemory()
    for release in range(10):
        memory.seen(replace(WINDOW, release=release, slice=None), b"x")
        memory.seen(replace(WINDOW, release=0, slice=None), b"0")  # in use, so it is not let go
    kept = [release for release in range(10) if memory.states("digits", release)]
    assert kept == [0, 8, 9]
    assert len(kept) == RELEASES
