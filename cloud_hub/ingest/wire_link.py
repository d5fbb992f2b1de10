"""A connection to the broker in the thread that works: many messages a read, many thanks and acknowledgements a write.

The broker is thanked for a message only after what it brought was committed (or refused), and it sends at most
:data:`UNTHANKED_MESSAGES` before that. So nothing piles up here: what a slow database does not take waits in the broker's queue.
"""

import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable

from agent.protocol.limits import MAX_MESSAGE_BYTES
from cloud_hub.config import BrokerSettings
from cloud_hub.ingest import packets
from cloud_hub.ingest.packets import Answer, Publish, Splitter, WireError
from cloud_hub.mqtt import Message, broker_tls

log = logging.getLogger(__name__)

UNTHANKED_MESSAGES = 4096
GROUP_BYTES = 8 * 1024 * 1024
"""Payloads that are handed over at once; they may inflate to more. About so many more may wait here."""
KEEPALIVE_SECONDS = 60
LARGEST_PACKET = MAX_MESSAGE_BYTES + 4096
READ_BYTES = 256 * 1024
SILENCE_SECONDS = 1.5 * KEEPALIVE_SECONDS
"""A broker that is there has answered a ping by then."""
PATIENCE_SECONDS = 10.0
RECONNECT_SECONDS = (1.0, 10.0)


class WireLink:
    """One subscription. Every method is called by one thread; :attr:`connected` may be read by others."""

    def __init__(
        self, settings: BrokerSettings, client_id: str, subscription: str, count: Callable[[str], None]
    ) -> None:
        self._settings, self._client_id, self._subscription = settings, client_id, subscription
        self._count = count
        self._tls = None if settings.tls is None else broker_tls(settings.tls)
        self._socket: socket.socket | None = None
        self._splitter = Splitter(LARGEST_PACKET)
        self._messages: deque[Publish] = deque()
        self._octets = 0
        self._outgoing: list[bytes] = []
        self._thanks: list[bytes] = []
        self._spoke = self._heard = 0.0
        self._subscribed = False
        self._answered: set[int] = set()
        self._retry_at, self._pause = 0.0, RECONNECT_SECONDS[0]

    @property
    def connected(self) -> bool:
        """The subscription stands."""
        return self._subscribed

    def receive(self, most: int, timeout: float) -> list[Message]:
        """Say what is to be said (all that was received before is settled now), then return what has come.

        Args:
            most: messages.
            timeout: seconds to wait for the first of them.
        """
        try:
            if self._socket is None and not self._connect(timeout):
                return []
            self._say()
            self._read(most, timeout)
            if time.monotonic() - self._heard > SILENCE_SECONDS:
                raise WireError(f"nothing for {SILENCE_SECONDS:g} s")  # noqa: TRY301 - ends as any other loss
        except (OSError, WireError) as error:
            self._lose(str(error))
        taken = self._some(most)
        self._thanks += [packets.thanks(each.packet) for each in taken if each.packet]
        return [message for each in taken if (message := self._message(each)) is not None]

    def acknowledge(self, to: str, payload: bytes) -> None:
        """Queue one message at QoS 0; it is sent with the next :meth:`receive`."""
        if not self._subscribed:
            self._count("not-connected")
        else:
            self._outgoing.append(packets.publish(to, payload))

    def close(self) -> None:
        """Say what is left, and good-bye."""
        if self._socket is None:
            return
        try:
            self._outgoing.append(packets.GOODBYE)
            self._say()
        except OSError as error:
            log.info("no good-bye", extra={"reason": str(error)})
        self._socket.close()
        self._socket, self._subscribed = None, False

    def _some(self, most: int) -> list[Publish]:
        """The oldest, up to so many and up to :data:`GROUP_BYTES` together."""
        taken: list[Publish] = []
        octets = 0
        while self._messages and len(taken) < most and octets < GROUP_BYTES:
            taken.append(self._messages.popleft())
            octets += len(taken[-1].payload)
        self._octets -= octets
        return taken

    def _message(self, publish: Publish) -> Message | None:
        try:
            return Message(publish.topic.decode(), publish.payload)
        except UnicodeDecodeError:
            self._count("unknown-topic")
            return None

    def _connect(self, timeout: float) -> bool:
        """Whether there is a connection with a subscription now; at most one attempt, and none before it is time."""
        left = self._retry_at - time.monotonic()
        if left > 0:
            time.sleep(min(left, timeout))
            return False
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, RECONNECT_SECONDS[1])
        made = socket.create_connection((self._settings.host, self._settings.port), PATIENCE_SECONDS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            made = self._tls.wrap_socket(made, server_hostname=self._settings.host)
        self._socket, self._splitter = made, Splitter(LARGEST_PACKET)
        self._outgoing = [
            packets.connect(
                self._client_id,
                keepalive=KEEPALIVE_SECONDS,
                receive_maximum=UNTHANKED_MESSAGES,
                largest=LARGEST_PACKET,
            ),
            packets.subscribe(1, self._subscription),
        ]
        self._answered.clear()
        self._say()
        self._expect(packets.CONNACK)
        self._expect(packets.SUBACK)
        self._pause, self._subscribed = RECONNECT_SECONDS[0], True
        log.info("connected to the broker", extra={"host": self._settings.host, "port": self._settings.port})
        return True

    def _say(self) -> None:
        """Acknowledgements first: a device that hears one does not send again."""
        if self._socket is None:
            return
        said = [*self._outgoing, *self._thanks]
        if not said and time.monotonic() - self._spoke < KEEPALIVE_SECONDS / 2:
            return
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.sendall(b"".join(said) or packets.PING)
        self._spoke = time.monotonic()
        self._outgoing, self._thanks = [], []

    def _read(self, most: int, timeout: float) -> None:
        """Wait for something, then take what is there."""
        wait = 0.0 if self._messages else timeout
        while len(self._messages) < most and self._octets < GROUP_BYTES and self._take(wait):
            wait = 0.0

    def _take(self, timeout: float) -> bool:
        """One read; false where nothing came in time."""
        if self._socket is None:
            return False
        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv(READ_BYTES)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            return False
        if not data:
            raise WireError("it ended the connection")
        self._heard = time.monotonic()
        for packet in self._splitter.feed(data):
            if isinstance(packet, Publish):
                self._messages.append(packet)
                self._octets += len(packet.payload)
            else:
                self._heed(packet)
        return True

    def _heed(self, answer: Answer) -> None:
        if answer.kind in (packets.CONNACK, packets.SUBACK, packets.DISCONNECT):
            code = packets.reason(answer)
            if code >= packets.FAILURE or answer.kind == packets.DISCONNECT:
                raise WireError(f"packet {answer.kind}, reason code 0x{code:02x}")
        self._answered.add(answer.kind)

    def _expect(self, kind: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while kind not in self._answered:  # it may have come together with the one before
            if not self._take(max(deadline - time.monotonic(), 0.001)):
                raise WireError(f"no answer within {PATIENCE_SECONDS:g} s")

    def _lose(self, why: str) -> None:
        """What was received and is not settled comes again, to us or to another process."""
        log.warning("connection to the broker is gone", extra={"reason": why})
        if self._socket is not None:
            self._socket.close()
        self._socket, self._subscribed = None, False
        self._messages.clear()
        self._octets = 0
        self._outgoing, self._thanks = [], []
