import asyncio
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.supervisor.errors import AddressError
from agent.supervisor.listeners import ModelListeners, check_address

Open = Callable[..., Awaitable[ModelListeners]]


@pytest.fixture
async def open_listeners(tmp_path: Path) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def opener(**settings: Any) -> ModelListeners:
            settings = {
                "unix_path": tmp_path / "digits.sock",
                "private_folder": tmp_path / "slots",
                **settings,
            }
            listeners = await ModelListeners.open("digits", **settings)
            stack.callback(listeners.close)
            return listeners

        yield opener


async def test_a_unix_socket_alone_is_the_default(open_listeners: Open, tmp_path: Path) -> None:
    listeners = await open_listeners()
    assert listeners.tcp_address is None
    assert len(listeners.fds) == 1
    assert stat.S_IMODE((tmp_path / "digits.sock").stat().st_mode) == 0o660
    assert stat.S_IMODE((tmp_path / "slots").stat().st_mode) == 0o700


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3"])
async def test_tcp_takes_a_free_port_on_loopback(open_listeners: Open, host: str) -> None:
    listeners = await open_listeners(tcp=(host, 0))
    address = listeners.tcp_address
    assert address is not None
    with socket.create_connection(address, timeout=2):
        pass
    assert listeners.sockets[1].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "device.local", "10.0.0.1", ""])
async def test_off_loopback_is_refused_without_tls(open_listeners: Open, tmp_path: Path, host: str) -> None:
    with pytest.raises(AddressError, match=r"only loopback is allowed|expected an IP address"):
        await open_listeners(tcp=(host, 8600))
    assert not (tmp_path / "digits.sock").exists()


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(AddressError, match="0-65535"):
        check_address("127.0.0.1", 70_000, tls=False)


async def test_a_socket_left_by_a_killed_agent_is_replaced(open_listeners: Open, tmp_path: Path) -> None:
    path = tmp_path / "digits.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.listen()  # as a runner that outlives its killed agent for a moment still does
    await open_listeners()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        left.setblocking(False)
        with pytest.raises(BlockingIOError):
            left.accept()
    left.close()


async def test_a_socket_in_use_by_another_agent_is_refused(open_listeners: Open) -> None:
    first = await open_listeners()
    with pytest.raises(AddressError, match="another agent is using it"):
        await open_listeners()
    first.close()
    await open_listeners()


async def test_a_file_in_the_way_is_not_removed(open_listeners: Open, tmp_path: Path) -> None:
    path = tmp_path / "digits.sock"
    path.write_text("precious")
    with pytest.raises(AddressError, match="not a socket"):
        await open_listeners()
    assert path.read_text() == "precious"


async def test_a_path_too_long_for_a_unix_socket_is_refused(open_listeners: Open, tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="at most 107"):
        await open_listeners(unix_path=tmp_path / ("x" * 110))


async def test_a_taken_tcp_port_is_refused_after_waiting(open_listeners: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(AddressError, match=f"127.0.0.1:{port}: Address already in use"):
            await open_listeners(tcp=("127.0.0.1", port), bind_timeout=0.1)


async def test_a_child_accepts_on_inherited_descriptors(open_listeners: Open) -> None:
    listeners = await open_listeners(tcp=("127.0.0.1", 0))
    code = (
        "import socket, sys\n"
        "s = socket.socket(fileno=int(sys.argv[1])); s.setblocking(True)\n"
        "c, _ = s.accept(); c.sendall(b'child'); c.close()\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(listeners.fds[1]), pass_fds=listeners.fds
    )
    try:
        address = listeners.tcp_address
        assert address is not None
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(*address)
            assert await reader.read() == b"child"
        writer.close()
        await writer.wait_closed()
    finally:
        await child.wait()


async def test_private_sockets_differ_and_go_away(open_listeners: Open) -> None:
    listeners = await open_listeners()
    first, second = listeners.private(), listeners.private()
    assert first.path != second.path
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    first.close()
    assert first.path.exists()
    for each in (first, second):
        each.remove()
        assert not each.path.exists()


async def test_close_removes_only_its_own_path(open_listeners: Open, tmp_path: Path) -> None:
    listeners = await open_listeners()
    path = tmp_path / "digits.sock"
    path.unlink()
    path.write_text("somebody else's")
    listeners.close()
    assert path.exists()
    listeners.close()
    assert path.exists()
