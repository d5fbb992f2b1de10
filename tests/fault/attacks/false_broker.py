"""A broker that is none: enough of MQTT 5 to be connected to, and then whatever a test sends."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP = 1, 2, 3, 4, 8, 9, 12, 13
Attack = Callable[[ssl.SSLSocket], None]
"""Called with the connection when the client has subscribed."""


class FalseBroker:
    """Listens on loopback.

    Args:
        certificate: of the server and its key, PEM; None speaks plainly.
        authority: that clients' certificates must be from.
        attacks: what it sends to a client that has subscribed, one after the other, a connection each.
    """

    def __init__(
        self,
        certificate: tuple[Path, Path] | None,
        authority: Path | None = None,
        attacks: Sequence[Attack] = (),
    ) -> None:
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._context.load_cert_chain(*certificate)
            if authority is not None:
                self._context.load_verify_locations(authority)
                self._context.verify_mode = ssl.CERT_REQUIRED
        self._attacks = attacks
        self.subscribed = 0
        """Connections that got as far."""
        self.ended = 0
        """Of these, those that are over."""
        self.refused = 0
        """Connections that ended before."""
        self.heard: list[bytes] = []
        """First bytes of every packet that a client sent."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="false-broker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        before = self.subscribed
        with contextlib.suppress(OSError, IndexError), plain:
            plain.settimeout(30)
            if self._context is None:
                self.heard.append(plain.recv(1))
                plain.sendall(bytes([CONNACK << 4, 3, 0, 0, 0]))
            else:
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    self._speak(connection)
        if self.subscribed == before:
            self.refused += 1
        else:
            self.ended += 1

    def _speak(self, connection: ssl.SSLSocket) -> None:
        while True:
            kind, flags, body = _packet(connection)
            self.heard.append(bytes([kind << 4 | flags]))
            if kind == CONNECT:
                connection.sendall(bytes([CONNACK << 4, 3, 0, 0, 0]))
            elif kind == SUBSCRIBE:
                count = sum(body.count(word) for word in (b"/desired", b"/response", b"/command", b"/ack"))
                answer = body[:2] + b"\x00" + b"\x01" * count
                connection.sendall(bytes([SUBACK << 4, len(answer)]) + answer)
                self.subscribed += 1
                if self.subscribed <= len(self._attacks):
                    self._attacks[self.subscribed - 1](connection)
            elif kind == PUBLISH and flags & 0x06:
                topic = int.from_bytes(body[:2], "big")
                connection.sendall(bytes([PUBACK << 4, 2]) + body[2 + topic : 4 + topic])
            elif kind == PINGREQ:
                connection.sendall(bytes([PINGRESP << 4, 0]))


TLS_HELLO = b"\x16"
"""First byte of what a client says that speaks TLS or nothing."""


def publish(topic: str, payload: bytes, *, qos: int = 1, identity: int = 1) -> bytes:
    """A PUBLISH packet."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name
    if qos:
        body += identity.to_bytes(2, "big")
    body += b"\x00" + payload
    return bytes([PUBLISH << 4 | qos << 1]) + length(len(body)) + body


def length(count: int) -> bytes:
    """MQTT's variable byte integer."""
    found = bytearray()
    while True:
        count, digit = divmod(count, 128)
        found.append(digit | (0x80 if count else 0))
        if not count:
            return bytes(found)


def _packet(connection: ssl.SSLSocket) -> tuple[int, int, bytes]:
    head = _exactly(connection, 1)[0]
    count, shift = 0, 0
    while True:
        digit = _exactly(connection, 1)[0]
        count |= (digit & 127) << shift
        shift += 7
        if not digit & 128:
            break
    return head >> 4, head & 15, _exactly(connection, count)


def _exactly(connection: ssl.SSLSocket | socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise OSError("the client hung up")
        found += more
    return found
