"""The command against ends that misbehave: a socket that is not ours, an answer without end, a hang-up; a stop with clients."""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from agent.cli import client
from agent.cli.errors import AgentNotRunningError, BadAnswerError, NotAllowedError
from agent.cli.main import main
from agent.protocol.control import MAX_RESPONSE_BYTES, ControlRequest
from agent.service.control_server import ControlServer

STATUS = ControlRequest(method="status")


@contextmanager
def listening(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """One client is served on a thread of its own."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(10)

    def accept() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            connection.recv(65_536)
            serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    yield
    thread.join(15)
    listener.close()
    assert not thread.is_alive()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to become a user who may not use the socket")
def test_another_user_is_told_that_he_may_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "control.sock"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen()
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(65_534, 65_534, 65_534)
            os.setresuid(65_534, 65_534, 65_534)
            os._exit(main(["--socket", str(path), "status"]))
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 4
    said = capfd.readouterr().err
    assert f"permission denied on {path} for user id 65534" in said
    assert "use sudo" in said


def test_permission_denied_is_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    class Refusing(socket.socket):
        connect = refuse

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(NotAllowedError) as caught:
        client.ask(str(tmp_path / "control.sock"), STATUS)
    assert caught.value.exit_code == 4


def test_an_answer_without_end_is_read_up_to_the_bound_and_no_further(tmp_path: Path) -> None:
    sent = 0

    def pour(connection: socket.socket) -> None:
        nonlocal sent
        try:
            while sent < 100 * MAX_RESPONSE_BYTES:
                sent += connection.send(b"x" * 65_536)
        except OSError:
            return  # the client has hung up

    path = tmp_path / "control.sock"
    with listening(path, pour), pytest.raises(BadAnswerError, match="not understood"):
        client.ask(str(path), STATUS)
    assert sent < 2 * MAX_RESPONSE_BYTES


@pytest.mark.parametrize(
    ("answer", "error"), [(b"", AgentNotRunningError), (b'{"v":1', BadAnswerError), (b"{}\n", BadAnswerError)]
)
def test_an_answer_that_is_cut_short_or_empty(tmp_path: Path, answer: bytes, error: type[Exception]) -> None:
    path = tmp_path / "control.sock"
    with listening(path, lambda connection: connection.sendall(answer)), pytest.raises(error):
        client.ask(str(path), STATUS)


def test_what_is_told_of_a_file_with_a_hostile_name_stays_in_its_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x\x1b[9A\x1b[J\nevery byte is there"
    path.write_bytes(b"no bundle")
    assert main(["bundle", "show", str(path)]) == 7
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["edgeward", "  next"]
    assert all(line.isprintable() for line in said)


async def test_clients_that_stay_or_leave_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    server = ControlServer(path, cast(Any, object()), lambda _: None)
    await server.start()
    stays, staying = await asyncio.open_unix_connection(str(path))
    _, leaving = await asyncio.open_unix_connection(str(path))
    leaving.write(b'{"method":')
    leaving.close()
    await leaving.wait_closed()
    await asyncio.wait_for(server.close(), 5)
    assert await asyncio.wait_for(stays.read(), 5) == b""  # let go, not kept waiting
    staying.close()
    await staying.wait_closed()
    assert not path.exists()
