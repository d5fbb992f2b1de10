"""HTTPS at trusted time: a device without a clock enrols and fetches; a certificate that has expired is refused."""

import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.core.trusted_time import BUILD_TIME
from agent.protocol.enrolment import EnrolmentRequest
from agent.transport import http
from agent.transport.errors import EnrolmentError
from agent.transport.http_child import fetch
from agent.transport.http_wire import Ended, Failed, FromChild, Order, Piece
from tests.integration.transport.test_trusted_tls import DAY, Times

DATA = b"the bytes of an artifact"
REQUEST = EnrolmentRequest(
    token=f"ew1.{'a' * 32}.{'0' * 64}", device="camera-1", hardware_class="cpu-x86-64", csr="csr"
)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(403, "no such token")

    def log_message(self, *_arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_arguments: object) -> None:
        """A client that goes away after the handshake is what these tests are about."""


@contextmanager
def listening(times: Times) -> Iterator[str]:
    """A web server with the broker's certificate; its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(times.folder / "broker.crt", times.folder / "broker.key")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def fetched(times: Times, *, now: float) -> tuple[bytes, FromChild]:
    said: list[FromChild] = []
    with listening(times) as url:
        order = Order(
            url=f"{url}/{hashlib.sha256(DATA).hexdigest()}",
            etag=None,
            offset=0,
            size=len(DATA),
            authority=str(times.folder / "ca.crt"),
            connect_seconds=10.0,
            read_seconds=10.0,
            now=now,
        )
        fetch(order, said.append)
    return b"".join(each.data for each in said if isinstance(each, Piece)), said[-1]


def test_an_artifact_comes_whatever_the_machines_clock_says(tmp_path: Path) -> None:
    data, last = fetched(Times(tmp_path, broker=(40, 400)), now=BUILD_TIME)
    assert isinstance(last, Ended), last
    assert data == DATA


def test_no_artifact_comes_over_a_certificate_that_has_expired_at_trusted_time(tmp_path: Path) -> None:
    data, last = fetched(Times(tmp_path, broker=(-30, 60)), now=BUILD_TIME + 61 * DAY)
    assert isinstance(last, Failed), last
    assert last.kind == "refused"
    assert "the certificate of broker expired" in last.text
    assert data == b""


def enrolling(times: Times, monkeypatch: pytest.MonkeyPatch, *, clock: float) -> str:
    """What the enrolment says of its failure."""
    monkeypatch.setenv("SSL_CERT_FILE", str(times.folder / "ca.crt"))
    monkeypatch.setattr("time.time", lambda: clock)
    with listening(times) as url, pytest.raises(EnrolmentError) as error:
        http.enrol(url, REQUEST)
    return str(error.value)


def test_a_device_without_a_clock_reaches_the_hub_that_enrols_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the hub answered 403" in enrolling(Times(tmp_path), monkeypatch, clock=0.0)


def test_a_hub_whose_certificate_expired_before_this_agent_was_built_enrols_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the certificate of broker expired" in enrolling(
        Times(tmp_path, broker=(-30, -1)), monkeypatch, clock=0.0
    )
