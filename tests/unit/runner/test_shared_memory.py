"""Regions in a folder of their own: who may have one, where its bounds are, what happens when it changes."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agent.runner.errors import RequestError, UnknownTargetError
from agent.runner.shared_memory import FOLDER, MAX_REGIONS, Regions

ME = os.getuid()
STRANGER = ME + 4242
NOBODY = 65534


def make(path: Path, content: bytes = b"0123456789abcdef") -> Path:
    path.write_bytes(content)
    return path


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[Regions]:
    make(tmp_path / "k")
    regions = Regions("unix", maximum_bytes=1000, folder=tmp_path)
    yield regions
    regions.close()


def register(
    regions: Regions, name: str = "r", *, peer: int | None = ME, key: str = "/k", offset: int = 0
) -> None:
    regions.register(peer, name, key=key, offset=offset, byte_size=16 - offset)


def test_what_is_read_and_written_lies_in_the_region(regions: Regions, tmp_path: Path) -> None:
    register(regions, offset=4)
    assert regions.read(ME, "r", 0, 12) == b"456789abcdef"
    assert regions.read(ME, "r", 10, 2) == b"ef"
    regions.write(ME, "r", 1, b"XY")
    assert (tmp_path / "k").read_bytes() == b"01234XY789abcdef"


@pytest.mark.parametrize(("offset", "size"), [(0, 13), (12, 1), (-1, 1), (0, -1), (2**62, 2**62)])
def test_outside_the_region_nothing_is_read_or_found(regions: Regions, offset: int, size: int) -> None:
    register(regions, offset=4)
    with pytest.raises(RequestError, match="outside its 12 bytes"):
        regions.read(ME, "r", offset, size)
    with pytest.raises(RequestError, match="outside its 12 bytes"):
        regions.write(ME, "r", 11, b"ab")


def test_a_tensor_may_be_as_large_as_a_body(tmp_path: Path) -> None:
    make(tmp_path / "k")
    regions = Regions("unix", maximum_bytes=8, folder=tmp_path)
    register(regions)
    assert len(regions.read(ME, "r", 0, 8)) == 8
    with pytest.raises(RequestError, match="9 bytes for one tensor, at most 8") as caught:
        regions.read(ME, "r", 0, 9)
    assert caught.value.status == 413
    regions.close()


@pytest.mark.parametrize(
    ("access", "peer", "told"),
    [
        ("off", ME, "serving.shared_memory"),
        ("off", None, "serving.shared_memory"),
        ("unix", None, "not allowed over TCP"),
        ("unix", STRANGER, f"belongs to user {ME}, you are user {STRANGER}"),
        ("unix+tcp", STRANGER, f"belongs to user {ME}"),
    ],
)
def test_who_may_not_register_is_told_why(tmp_path: Path, access: str, peer: int | None, told: str) -> None:
    make(tmp_path / "k")
    regions = Regions(access, maximum_bytes=1000, folder=tmp_path)  # type: ignore[arg-type]  # parametrized
    with pytest.raises(RequestError, match=told) as caught:
        register(regions, peer=peer)
    assert caught.value.status == 403
    assert regions.status(peer) == {}
    with pytest.raises(RequestError):
        regions.read(peer, "r", 0, 1)


@pytest.mark.skipif(ME != 0, reason="needs root: gives the region to another user")
def test_root_may_register_what_belongs_to_others(tmp_path: Path) -> None:
    os.chown(make(tmp_path / "k"), STRANGER, -1)
    regions = Regions("unix", maximum_bytes=1000, folder=tmp_path)
    register(regions, peer=0)
    register(regions, "theirs", peer=STRANGER)
    assert list(regions.status(STRANGER)) == ["theirs"]
    regions.close()


def test_over_tcp_only_where_the_setting_says_so(tmp_path: Path) -> None:
    make(tmp_path / "k")
    regions = Regions("unix+tcp", maximum_bytes=1000, folder=tmp_path)
    register(regions, peer=None)
    assert regions.read(None, "r", 0, 3) == b"012"
    with pytest.raises(UnknownTargetError):
        regions.read(ME, "r", 0, 3)
    regions.close()


def test_a_region_is_its_registrants_alone(regions: Regions) -> None:
    register(regions)
    for call in (
        lambda: regions.read(STRANGER, "r", 0, 1),
        lambda: regions.write(STRANGER, "r", 0, b"x"),
        lambda: regions.status(STRANGER, "r"),
    ):
        with pytest.raises(UnknownTargetError, match="'r' is not registered by you"):
            call()
    regions.unregister(STRANGER)
    regions.unregister(STRANGER, "r")
    assert list(regions.status(ME)) == ["r"]
    assert regions.status(STRANGER) == {}


@pytest.mark.parametrize("key", ["", "/", ".", "..", "/..", "a/b", "/../k", "../k", "//k", "k\0", "x" * 256])
def test_a_key_is_one_name_and_no_path(regions: Regions, key: str) -> None:
    with pytest.raises(RequestError, match="expected '/' and a name of 1 to 255 bytes"):
        register(regions, key=key)


@pytest.mark.parametrize("name", ["", "n" * 256])
def test_a_regions_name_is_bounded(regions: Regions, name: str) -> None:
    with pytest.raises(RequestError, match="1 to 255 bytes"):
        register(regions, name)


def test_links_folders_and_fifos_are_no_shared_memory(regions: Regions, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "k")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    before = descriptors()
    for key, told in (("link", "a link"), ("folder", "directory"), ("fifo", "not a shared memory object")):
        with pytest.raises(RequestError, match=told):
            register(regions, key=key)
    assert descriptors() == before


@pytest.mark.parametrize(("offset", "size"), [(0, 17), (16, 1), (17, 1), (0, 0), (-1, 4), (4, -1)])
def test_a_region_is_a_part_of_its_object(regions: Regions, offset: int, size: int) -> None:
    before = descriptors()
    with pytest.raises(RequestError, match="must be a part of the object's 16 bytes"):
        regions.register(ME, "r", key="k", offset=offset, byte_size=size)
    assert descriptors() == before


def test_the_number_of_regions_is_bounded_and_their_descriptors_are_given_back(regions: Regions) -> None:
    before = descriptors()
    for index in range(MAX_REGIONS):
        register(regions, str(index))
    with pytest.raises(RequestError, match=f"{MAX_REGIONS} are registered, which is all"):
        register(regions, "one more")
    assert descriptors() == before + MAX_REGIONS
    regions.unregister(ME, "3")
    register(regions, "one more")
    regions.unregister(ME)
    assert descriptors() == before


def test_a_region_that_shrank_is_refused_and_not_lengthened(regions: Regions, tmp_path: Path) -> None:
    register(regions)
    os.truncate(tmp_path / "k", 8)
    assert regions.read(ME, "r", 0, 8) == b"01234567"
    with pytest.raises(RequestError, match="'/k' is shorter than it was"):
        regions.read(ME, "r", 4, 8)
    with pytest.raises(RequestError, match="'/k' is shorter than it was"):
        regions.write(ME, "r", 4, b"12345678")
    assert (tmp_path / "k").stat().st_size == 8


def test_a_region_that_shrinks_and_grows_all_the_time_harms_nobody(regions: Regions, tmp_path: Path) -> None:
    size = 1 << 20
    make(tmp_path / "large", bytes(size))
    regions = Regions("unix", maximum_bytes=size, folder=tmp_path)
    regions.register(ME, "r", key="large", offset=0, byte_size=size)
    ended = threading.Event()
    cuts = 0

    def cut() -> None:
        nonlocal cuts
        while not ended.is_set():
            os.truncate(tmp_path / "large", 0)
            os.truncate(tmp_path / "large", size)
            cuts += 1

    cutter = threading.Thread(target=cut)
    cutter.start()
    whole = short = 0
    try:
        while cuts < 200 or not (whole and short):
            try:
                whole += len(regions.read(ME, "r", 0, size)) == size
            except RequestError:
                short += 1
    finally:
        ended.set()
        cutter.join()
        regions.close()


@pytest.mark.skipif(ME != 0, reason="needs root: acts as another user for a moment")
def test_what_the_agents_user_may_not_open_or_write_is_told() -> None:
    keys = [f"edgeward-test-{uuid4().hex}" for _ in range(2)]
    for key, mode in zip(keys, (0o600, 0o644), strict=True):
        make(FOLDER / key).chmod(mode)
    regions = Regions("unix", maximum_bytes=1000)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(RequestError, match="the agent's user may not open it") as caught:
            register(regions, key=keys[0])
        assert caught.value.status == 403
        register(regions, key=keys[1])
        assert regions.read(ME, "r", 0, 2) == b"01"
        with pytest.raises(RequestError, match=r"may read .* not write to it"):
            regions.write(ME, "r", 0, b"x")
    finally:
        os.seteuid(0)
        regions.close()
        for key in keys:
            (FOLDER / key).unlink()
