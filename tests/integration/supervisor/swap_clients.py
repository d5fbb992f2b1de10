"""Persistent clients in a process of their own: unmodified tritonclients, and plain keep-alive ones over TCP and Unix.

``python -m tests.integration.supervisor.swap_clients HOST PORT UNIX_PATH``. They ask until a line of JSON comes on
standard input, ``[[killed, gone], …]``: when runners were killed and when each was surely gone (``time.monotonic()``).
Then one line of JSON says what became of every request (:class:`Report` by client).
"""

import itertools
import json
import select
import socket
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import tritonclient.http
from msgspec import Struct

PATIENCE_SECONDS = 60.0
BURST = 8
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0.0, 0.0, 0.0, 0.0]}]}
).encode()
REQUEST = (
    b"POST /v2/models/add/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
)

Window = tuple[float, float]


class Report(Struct, kw_only=True):
    """What became of one client's requests."""

    requests: int = 0
    in_flight_at_kills: int = 0
    """Begun before a killed runner was gone and not ended when it was killed."""
    failed_in_flight: int = 0
    failed: list[str] = []
    """Every other failure: there must be none."""
    told_to_close: int = 0
    """Answers that said ``Connection: close``."""
    found_closed: int = 0
    """Connections that were closed while nothing was asked."""
    resent: int = 0
    """Pipelined requests that were not answered because an answer before them said ``Connection: close``."""
    longest_ms: float = 0.0
    releases: list[int] = []
    """Those that answered, in order, each time it changed."""


class Client(threading.Thread):
    """Asks for 0 + n, so that the answer is the release; at most one request, or burst, at a time."""

    def __init__(self, name: str, ask: Callable[["Client"], Sequence[int]], pause: float) -> None:
        super().__init__(name=name, daemon=True)
        self.report = Report()
        self.over = threading.Event()
        self._ask = ask
        self._pause = pause
        self._begun, self._ended = array("d"), array("d")
        self._failures: list[tuple[float, float, str]] = []

    def run(self) -> None:
        last = False
        while not last:
            last = self.over.is_set()  # once more, when nothing is swapped any more
            begun = time.monotonic()
            try:
                releases = self._ask(self)
            except Exception as error:  # noqa: BLE001 - whatever a client can run into is what is counted here
                self._failures.append((begun, time.monotonic(), f"{type(error).__name__}: {error}"))
                releases = ()
            self._begun.append(begun)
            self._ended.append(time.monotonic())
            self._note(releases)
            self.over.wait(self._pause)

    def _note(self, releases: Sequence[int]) -> None:
        self.report.requests += max(1, len(releases))
        for release in releases:
            if not self.report.releases or self.report.releases[-1] != release:
                self.report.releases.append(release)

    def judge(self, kills: Sequence[Window]) -> Report:
        report = self.report
        report.longest_ms = (
            max((e - b for b, e in zip(self._begun, self._ended, strict=True)), default=0.0) * 1e3
        )
        for killed, gone in kills:
            report.in_flight_at_kills += sum(
                begun <= gone and ended >= killed
                for begun, ended in zip(self._begun, self._ended, strict=True)
            )
        for begun, ended, text in self._failures:
            if any(begun <= gone and ended >= killed for killed, gone in kills):
                report.failed_in_flight += 1
            else:
                report.failed.append(text)
        return report


def triton(host: str, port: int) -> Callable[[Client], Sequence[int]]:
    """An unmodified tritonclient with one persistent connection, made by the thread that uses it."""
    own = threading.local()

    def ask(_: Client) -> Sequence[int]:
        if not hasattr(own, "client"):
            own.client = tritonclient.http.InferenceServerClient(
                f"{host}:{port}", network_timeout=PATIENCE_SECONDS, connection_timeout=PATIENCE_SECONDS
            )
            own.tensor = tritonclient.http.InferInput("x", [1, 4], "FP32")
            own.tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
        answer = own.client.infer("add", [own.tensor])
        values = answer.as_numpy("y")[0]
        return [_checked(answer.get_response()["model_version"], values.tolist())]

    return ask


def plain(connect: Callable[[], socket.socket], burst: int = 1) -> Callable[[Client], Sequence[int]]:
    """A keep-alive client that sends ``burst`` requests at once; looks before it sends, as urllib3 and httpx do."""
    connections: list[Connection] = []

    def ask(client: Client) -> Sequence[int]:
        answered: list[int] = []
        while len(answered) < burst:
            if connections and connections[0].closed_by_server():
                client.report.found_closed += 1
                connections.pop().close()
            if not connections:
                connections.append(Connection(connect()))
            try:
                last = connections[0].ask(burst - len(answered), answered)
            except BaseException:
                connections.pop().close()
                raise
            if last:
                client.report.told_to_close += 1
                client.report.resent += burst - len(answered)
                connections.pop().close()
        return answered

    return ask


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.settimeout(PATIENCE_SECONDS)
        self._data = b""

    def closed_by_server(self) -> bool:
        return bool(select.select([self._socket], [], [], 0)[0])

    def ask(self, count: int, answered: list[int]) -> bool:
        """Send ``count`` requests and add what they answer; True when the server has said that it closes."""
        self._socket.sendall(REQUEST * count)
        for _ in range(count):
            head, body = self._answer()
            lines = head.lower().split(b"\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise AssertionError(f"{lines[0]!r} {body!r}")
            answer: dict[str, Any] = json.loads(body)
            answered.append(_checked(answer["model_version"], answer["outputs"][0]["data"]))
            if b"connection: close" in lines:
                return True
        return False

    def _answer(self) -> tuple[bytes, bytes]:
        head = self._take(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        while len(self._data) < length:
            self._receive()
        body, self._data = self._data[:length], self._data[length:]
        return head, body

    def _take(self, end: bytes) -> bytes:
        while end not in self._data:
            self._receive()
        head, _, self._data = self._data.partition(end)
        return head

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed before the answer")
        self._data += data

    def close(self) -> None:
        self._socket.close()


def _checked(version: str, values: list[float]) -> int:
    """The release that answered; its number is what it adds."""
    release = int(version)
    if values != [release] * 4:
        raise AssertionError(f"release {version} answered {values}")
    return release


def clients(host: str, port: int, unix_path: str) -> Iterator[Client]:
    """Busy, often idle, idle beyond the drain deadline, and pipelining ones."""

    def tcp() -> socket.socket:
        return socket.create_connection((host, port), timeout=PATIENCE_SECONDS)

    def unix() -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.connect(unix_path)
        return connected

    yield Client("triton-busy", triton(host, port), 0.0)
    yield Client("triton-idle", triton(host, port), 0.2)
    yield Client("triton-sleepy", triton(host, port), 2.3)
    for name, connect in (("tcp", tcp), ("unix", unix)):
        yield Client(f"{name}-busy", plain(connect), 0.0)
        yield Client(f"{name}-idle", plain(connect), 0.2)
        yield Client(f"{name}-sleepy", plain(connect), 2.1)
        yield Client(f"{name}-pipelining", plain(connect, BURST), 0.005)


def main(host: str, port: str, unix_path: str) -> None:
    started = list(clients(host, int(port), unix_path))
    for client in started:
        client.start()
    while not all(client.report.requests for client in started):
        time.sleep(0.01)
    sys.stdout.write("asking\n")
    sys.stdout.flush()
    kills: list[Window] = [(killed, gone) for killed, gone in json.loads(sys.stdin.readline())]
    for client in started:
        client.over.set()
    for client in started:
        client.join()
    reports = {client.name: client.judge(kills) for client in started}
    for name, releases in ((name, report.releases) for name, report in reports.items()):
        if any(later < earlier for earlier, later in itertools.pairwise(releases)):
            reports[name].failed.append(f"an older release answered after a newer one: {releases}")
    sys.stdout.write(msgspec.json.encode(reports).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
