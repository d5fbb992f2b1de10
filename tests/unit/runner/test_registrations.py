"""The table that a model's runners share; two of them stand for two processes here, and real ones contend in one test."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runner.errors import RequestError, UnknownTargetError
from agent.runner.registrations import REGISTRATIONS_BYTES, Registration, Registrations, Table
from agent.runner.shared_memory import MAX_NAME_BYTES, MAX_REGIONS, Regions

ME = os.getuid()
ENTRY = Registration("/k", 0, 16)

ADD = """
import sys
from agent.runner.registrations import Registration, Registrations
table, who = Registrations(int(sys.argv[1])), sys.argv[2]
for number in range(20):
    table.change(lambda entries: entries.update({(None, f"{who}-{number}"): Registration("/k", 0, 1)}))
"""


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("test")
    yield fd
    os.close(fd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "k").write_bytes(b"0123456789abcdef")
    (tmp_path / "l").write_bytes(b"ABCDEFGHIJKLMNOP")
    return tmp_path


def regions(folder: Path, memory: int) -> Regions:
    return Regions("unix", maximum_bytes=1000, folder=folder, registrations=Registrations(memory))


def test_what_one_registers_the_other_serves_at_once(folder: Path, memory: int) -> None:
    first, second = regions(folder, memory), regions(folder, memory)
    first.register(ME, "r", key="/k", offset=4, byte_size=8)
    assert second.read(ME, "r", 0, 3) == b"456"
    assert second.status(ME) == {"r": Registration("/k", 4, 8)}
    second.unregister(ME, "r")
    with pytest.raises(UnknownTargetError):
        first.read(ME, "r", 0, 3)
    second.register(ME, "r", key="/l", offset=0, byte_size=16)
    assert first.read(ME, "r", 0, 3) == b"ABC"
    with pytest.raises(RequestError, match="registered already"):
        first.register(ME, "r", key="/k", offset=0, byte_size=16)
    first.close()
    assert regions(folder, memory).read(ME, "r", 0, 3) == b"ABC"


def test_what_comes_from_another_runner_is_checked_as_ever(folder: Path, memory: int) -> None:
    first = regions(folder, memory)
    first.register(ME, "r", key="/k", offset=0, byte_size=16)
    os.truncate(folder / "k", 8)
    with pytest.raises(RequestError, match="must be a part of the object's 8 bytes"):
        regions(folder, memory).read(ME, "r", 0, 8)
    (folder / "k").unlink()
    with pytest.raises(UnknownTargetError, match="there is no such object"):
        regions(folder, memory).read(ME, "r", 0, 8)
    assert first.read(ME, "r", 0, 8) == b"01234567"


def test_a_refused_registration_leaves_the_table_as_it_was(folder: Path, memory: int) -> None:
    table = Registrations(memory)
    mine = regions(folder, memory)
    with pytest.raises(RequestError):
        mine.register(ME, "r", key="/k", offset=0, byte_size=17)
    assert (table.changes, table.table()) == (0, {})


def test_the_largest_table_fits() -> None:
    table = Registrations(None)
    entry = Registration("/" + "k" * MAX_NAME_BYTES, 2**53, 2**53)

    def fill(entries: Table) -> None:
        for number in range(MAX_REGIONS):
            entries[2**32 - 1, f"{number:0{MAX_NAME_BYTES}}"] = entry

    table.change(fill)
    table.change(lambda _: None)
    assert len(table.table()) == MAX_REGIONS


def test_a_writer_that_died_half_way_leaves_the_table_before(memory: int) -> None:
    table = Registrations(memory)
    table.change(lambda entries: entries.update({(ME, "a"): ENTRY}))
    table.change(lambda entries: entries.update({(ME, "b"): ENTRY}))
    half = 8 + (table.changes + 1) % 2 * (REGISTRATIONS_BYTES // 2)
    os.pwrite(memory, b"\xff" * 100, half)  # what the next change would have written, without its last step
    assert sorted(name for _, name in Registrations(memory).table()) == ["a", "b"]
    table.change(lambda entries: entries.update({(ME, "c"): ENTRY}))
    assert sorted(name for _, name in Registrations(memory).table()) == ["a", "b", "c"]


def test_two_processes_that_change_it_at_once_lose_nothing(memory: int) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", ADD, str(memory), who], pass_fds=(memory,)) for who in "ab"
    ]
    assert [process.wait(30) for process in processes] == [0, 0]
    assert len(Registrations(memory).table()) == 40
