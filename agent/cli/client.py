"""One request to the agent over its control socket."""

import os
import socket

from agent.cli.errors import (
    AgentNotRunningError,
    BadAnswerError,
    BundleRefusedError,
    CliError,
    NotAllowedError,
    UnknownModelError,
)
from agent.protocol.codec import decode_json, encode_json
from agent.protocol.control import (
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    ControlProblem,
    ControlRequest,
    ControlResponse,
    ControlResult,
)
from agent.protocol.errors import ProtocolError

TIMEOUT_SECONDS = 30.0
"""How long the agent may take to answer."""

_NOT_RUNNING = "start it or see why it stopped: systemctl status edgeward-agent"


def ask(path: str, request: ControlRequest, descriptor: int | None = None) -> ControlResult:
    """Send ``request`` to the agent at the Unix socket ``path`` and return its result.

    ``descriptor``: an open file to pass along.

    Raises:
        AgentNotRunningError: there is no socket, or nobody listens on it.
        NotAllowedError: this user may not connect.
        UnknownModelError: the device has no such model.
        BadAnswerError: the answer is not of this protocol, or did not come in time.
        CliError: the agent refused the request.
    """
    line = _exchange(path, encode_json(request, limit=MAX_REQUEST_BYTES - 1) + b"\n", descriptor)
    try:
        response = decode_json(line, ControlResponse, limit=MAX_RESPONSE_BYTES)
    except ProtocolError as error:
        raise BadAnswerError(
            f"the agent's answer is not understood: {error}",
            "are `edgeward` and `edgeward-agent` of the same version? compare: edgeward --version",
        ) from error
    if response.error is not None:
        raise _refusal(response.error)
    if response.result is None:
        raise BadAnswerError("the agent's answer is empty")
    return response.result


def _exchange(path: str, line: bytes, descriptor: int | None) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        try:
            connection.connect(path)
            sent = 0 if descriptor is None else socket.send_fds(connection, [line], [descriptor])
            connection.sendall(line[sent:])
            answer = _read_line(connection)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise AgentNotRunningError(
                f"the agent is not running: nobody listens on {path}",
                f"{_NOT_RUNNING}; another socket: --socket PATH or EDGEWARD_SOCKET",
            ) from error
        except PermissionError as error:
            raise NotAllowedError(
                f"permission denied on {path} for user id {os.geteuid()}",
                "use sudo, or join the group that owns the socket (edgeward): see `ls -l` on it",
            ) from error
        except TimeoutError as error:
            raise BadAnswerError(
                f"the agent did not answer within {TIMEOUT_SECONDS:.0f} s", _NOT_RUNNING
            ) from error
        except OSError as error:
            raise AgentNotRunningError(f"no connection to {path}: {error}", _NOT_RUNNING) from error
    if not answer:
        raise AgentNotRunningError("the agent hung up before it answered", _NOT_RUNNING)
    return answer


def _read_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        data = connection.recv(65_536)
        if not data or len(received) > MAX_RESPONSE_BYTES:
            break
        received += data
    return bytes(received)


_NEXT_STEPS = {
    "nothing-to-roll-back": "see what the device keeps: edgeward models",
    "nothing-to-accept": "see what is under way, and what it waits for: edgeward plan",
    "no-bundle": "hand one in: edgeward bundle install FILE",
    "busy": "see what is under way: edgeward plan, edgeward bundle status",
    "too-large": "ask for fewer: --limit N",
    "internal": "see the log: journalctl -u edgeward-agent",
}


def _refusal(problem: ControlProblem) -> CliError:
    if problem.code == "not-a-bundle":
        return BundleRefusedError(problem.text)
    if problem.code == "unknown-model":
        return UnknownModelError(problem.text, "list the models: edgeward models")
    return CliError(problem.text, _NEXT_STEPS.get(problem.code))
