"""What is read from cgroup files. What the kernel does with them is tested in tests/fault and tests/integration, in a guest."""

from pathlib import Path

import pytest

from agent.supervisor.cgroup import Cgroup, MemoryEvents, RunnerCgroup, own_folder, room_mib


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """Files as the kernel shows them, for a service with a limit in a slice with another one."""
    service = tmp_path / "system.slice" / "agent.service"
    service.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    for folder, limit, used, droppable in ((service.parent, 500, 200, 0), (service, 300, 120, 20)):
        (folder / "memory.max").write_text(f"{limit << 20}\n")
        (folder / "memory.current").write_text(f"{used << 20}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {droppable << 20}\nactive_file 7\n")
    return tmp_path


def _membership(folder: Path, text: str) -> Path:
    path = folder / "membership"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("0::/system.slice/agent.service\n", "system.slice/agent.service"),
        ("9:memory:/other\n0::/system.slice/agent.service/supervisor\n", "system.slice/agent.service"),
        ("9:memory:/other\n", None),
        ("", None),
    ],
)
def test_the_own_cgroup_is_found(mount: Path, text: str, folder: str | None) -> None:
    found = own_folder(mount, _membership(mount, text))
    assert found == (None if folder is None else mount / folder)


def test_there_is_none_without_cgroup_v2(tmp_path: Path) -> None:
    assert own_folder(tmp_path, _membership(tmp_path, "0::/\n")) is None
    assert own_folder(tmp_path, tmp_path / "absent") is None
    assert Cgroup.delegated(mount=tmp_path, membership=tmp_path / "absent") is None


def test_the_tightest_limit_of_it_and_its_parents_is_the_room(mount: Path) -> None:
    service = mount / "system.slice" / "agent.service"
    assert room_mib(service, mount) == 200.0  # 300 - 120 + 20 droppable
    (mount / "system.slice" / "memory.max").write_text(f"{230 << 20}\n")
    assert room_mib(service, mount) == 30.0
    for folder in (service, service.parent):
        (folder / "memory.max").write_text("max\n")
    assert room_mib(service, mount) is None
    assert room_mib(None, mount) is None


def test_events_are_read_and_zero_when_it_is_gone(tmp_path: Path) -> None:
    group = RunnerCgroup(tmp_path)
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\n")
    assert group.events() == MemoryEvents(at_limit=2, killed=1)
    assert RunnerCgroup(tmp_path / "gone").events() == MemoryEvents()
