"""The MQTT 5 link of a device: one connection that is always being kept. With ``guarded_paho``, the only file that knows paho.

Each connection is a new paho client, so nothing half-sent outlives it: state is level-triggered, and whoever publishes hears
that the link went down. paho's thread only hands messages to the event loop, a bounded number at a time, and a message
is acknowledged to the broker (manual ack) when its handler has taken it.
"""

import asyncio
import contextlib
import logging
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Self

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.protocol.codec import encode_json
from agent.protocol.errors import MessageTooLargeError
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.state import Presence
from agent.protocol.topics import FROM_DEVICE, FROM_HUB, RETAINED, Channel, topic
from agent.transport.errors import LinkDownError, PublishRefusedError
from agent.transport.guarded_paho import GuardedClient
from agent.transport.inbox import Inbox, T
from agent.transport.lost import Lost
from agent.transport.settings import LinkSettings
from agent.transport.trusted_tls import judge_at

log = logging.getLogger(__name__)

AT_LEAST_ONCE = 1
HEADER_ALLOWANCE = 4096
"""Bytes of an MQTT packet beside its payload: topic, properties, header; a generous bound."""
PACKET_HEAD_BYTES = 10
"""Of a PUBLISH at QoS 1 and its PUBACK, beside topic and payload."""
_PURPOSES = frozenset(channel.value.partition("/")[0] for channel in Channel)
STABLE_SECONDS = 10.0
"""A connection that lasted this long starts the backoff anew (one that is cut at once does not)."""


class MqttLink:
    """The device's link to its hub, through the broker.

    Args:
        settings: where and how.
        device: device id; also the MQTT client id.
        boot: changes with every start of the agent; carried by presence.
        randomness: for the jitter.
        clock: by which the broker's certificate is judged, Unix seconds.
    """

    def __init__(
        self,
        settings: LinkSettings,
        *,
        device: str,
        boot: str,
        randomness: random.Random | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._device = device
        self._boot = boot
        self._randomness = randomness or random.SystemRandom()
        self._clock = clock
        self._inbox = Inbox(device)
        self._callbacks: list[Callable[[], Awaitable[None]]] = []
        self._connection: _Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._publishing = asyncio.Semaphore(settings.parallel_publishes)
        self.connected = asyncio.Event()
        """Set while the link is up and subscribed."""
        self.counted: Callable[[str, int, int], None] = lambda _purpose, _bytes_in, _bytes_out: None
        """Told what every message costs: its channel, bytes received, bytes sent; with its topic and head, without TLS and TCP.
        Questions for files and their answers are counted by whoever asks, who knows what for."""
        self.last_problem: str | None = None
        """Why the newest connection failed or ended, in words."""

    @property
    def errors(self) -> Counter[str]:
        """What was refused or failed since the start, by kind (see :class:`~agent.transport.inbox.Inbox`)."""
        return self._inbox.errors

    @property
    def is_connected(self) -> bool:
        return self.connected.is_set()

    def on(self, kind: type[T], handler: Callable[[T], None]) -> None:
        """Let ``handler`` take every message of ``kind``; on the event loop, at once, without waiting."""
        self._inbox.on(kind, handler)

    def on_connect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await ``callback`` after every connect, once subscriptions and presence stand: publish state again there."""
        self._callbacks.append(callback)

    async def start(self) -> None:
        """Begin to connect, and go on for ever; returns at once (await :attr:`connected` for the link)."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_connected(), name="mqtt-link")

    async def stop(self) -> None:
        """Say goodbye (presence offline, retained) where the link is up, and end it."""
        task, self._task = self._task, None
        if task is None:
            return
        if self.is_connected:
            with contextlib.suppress(LinkDownError, PublishRefusedError):
                await self._say_presence(online=False)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def publish(self, channel: Channel, payload: bytes, *, retain: bool | None = None) -> None:
        """Publish at QoS 1; returns when the broker has acknowledged.

        Args:
            channel: one that a device publishes on.
            payload: at most ``MAX_MESSAGE_BYTES``.
            retain: None: as the channel is defined (``RETAINED``).

        Raises:
            MessageTooLargeError: the payload is over the limit; nothing was sent.
            LinkDownError: no link, or none any more before the acknowledgement came.
            PublishRefusedError: the broker refused it; the text has its reason.
            ValueError: a device does not publish on this channel.
        """
        if channel not in FROM_DEVICE:
            raise ValueError(f"{channel}: a device publishes on {', '.join(sorted(FROM_DEVICE))} only")
        if len(payload) > MAX_MESSAGE_BYTES:
            raise MessageTooLargeError(
                f"{channel}: {len(payload)} bytes, at most {MAX_MESSAGE_BYTES} are allowed"
            )
        connection = self._connection
        if connection is None or not connection.is_open:
            raise LinkDownError(
                f"no link to {self._settings.host}:{self._settings.port}: {self.last_problem}"
            )
        keep = channel in RETAINED if retain is None else retain
        name = topic(self._device, channel)
        if channel is not Channel.REQUEST:
            self.counted(_purpose(channel), 0, len(payload) + len(name) + PACKET_HEAD_BYTES)
        async with self._publishing:
            await connection.publish(name, payload, retain=keep)

    async def _say_presence(self, *, online: bool) -> None:
        await self.publish(Channel.PRESENCE, _presence(self._boot, online=online))

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        clean_start = True
        while True:
            connection = _Connection(
                self._settings, self._device, self._boot, self._inbox, self._received, self._clock
            )
            began = loop.time()
            try:
                await connection.open(clean_start=clean_start)
                clean_start = False  # of this boot: what the broker kept from an earlier one is of no use
                self._connection = connection
                await self._greet()
                self.last_problem = await connection.lost.wait()
            except LinkDownError as error:
                self.last_problem = str(error)
                self._inbox.errors["link-failed"] += 1
            finally:
                self.connected.clear()
                self._connection = None
                await connection.close()
            if loop.time() - began > STABLE_SECONDS:
                attempt = 0
            delay = self._settings.backoff.delay(attempt, self._randomness)
            attempt += 1
            log.info("link down", extra={"problem": self.last_problem, "retry_in_seconds": round(delay, 3)})
            await asyncio.sleep(delay)

    def _received(self, name: str, size: int) -> None:
        channel = name.split("/", 3)[-1]
        if channel != Channel.RESPONSE:
            self.counted(_purpose(channel), size + len(name) + PACKET_HEAD_BYTES, 0)

    async def _greet(self) -> None:
        """Say that this device is here, then let everyone publish their state again."""
        await self._say_presence(online=True)
        self.connected.set()
        log.info("link up", extra={"host": self._settings.host, "port": self._settings.port})
        for callback in self._callbacks:
            try:
                await callback()
            except LinkDownError:
                raise
            except Exception:  # one that fails must not cost the others the link
                self._inbox.errors["connect-callback-failed"] += 1
                log.exception("a callback on connect failed")


class _Connection:
    """One paho client for one connection. Its callbacks run on paho's thread and only post to the event loop."""

    def __init__(
        self,
        settings: LinkSettings,
        device: str,
        boot: str,
        inbox: Inbox,
        received: Callable[[str, int], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._inbox = inbox
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._room = threading.BoundedSemaphore(settings.queue)
        self._closing = threading.Event()
        self._waiting: dict[tuple[str, int], asyncio.Future[ReasonCode]] = {}
        self._topics = [topic(device, channel) for channel in sorted(FROM_HUB)]
        self.lost = Lost()
        self.is_open = False
        self._client = GuardedClient(
            CallbackAPIVersion.VERSION2,
            client_id=device,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client.largest_packet = MAX_MESSAGE_BYTES + HEADER_ALLOWANCE
        self._client.connect_timeout = settings.connect_seconds
        self._client.max_inflight_messages = settings.parallel_publishes
        self._client.will_set(
            topic(device, Channel.PRESENCE), _presence(boot, online=False), AT_LEAST_ONCE, retain=True
        )
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe

    async def open(self, *, clean_start: bool) -> None:
        """Connect and subscribe.

        Raises:
            LinkDownError: refused, unreachable, or not in time.
        """
        where = f"{self._settings.host}:{self._settings.port}"
        connected = self._expect("connect", 0)
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                await asyncio.to_thread(self._connect, clean_start=clean_start)
                self._client.loop_start()
                answer = await connected
                if answer.is_failure:
                    raise LinkDownError(f"{where}: the broker refused the connection: {answer}")
                await self._subscribe()
        except TimeoutError as error:
            raise LinkDownError(f"{where}: no answer in {self._settings.connect_seconds:g} s") from error
        except (OSError, ValueError) as error:
            if isinstance(error, LinkDownError):
                raise
            raise LinkDownError(f"{where}: {error}") from error
        self.is_open = True

    async def publish(self, name: str, payload: bytes, *, retain: bool) -> None:
        """Publish at QoS 1 and await the broker's acknowledgement; raises like :meth:`MqttLink.publish`."""
        if not self.is_open:
            raise LinkDownError(f"{name}: {self.lost.reason}")
        info = self._client.publish(name, payload, AT_LEAST_ONCE, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkDownError(f"{name}: {info.rc.name}")
        answer = self._expect("publish", info.mid)
        try:
            async with asyncio.timeout(self._settings.publish_seconds):
                reason = await answer
        except TimeoutError as error:
            raise LinkDownError(
                f"{name}: no acknowledgement in {self._settings.publish_seconds:g} s"
            ) from error
        finally:
            self._waiting.pop(("publish", info.mid), None)
        if reason.is_failure:
            raise PublishRefusedError(f"{name}: the broker refused it: {reason}")

    async def close(self) -> None:
        """End the connection and paho's thread."""
        self.is_open = False
        self._closing.set()
        self._fail("closed by the agent")
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def _connect(self, *, clean_start: bool) -> None:
        """Block until the TCP (and TLS) connection stands; on a worker thread, where reading the certificates belongs too."""
        tls = self._settings.tls
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(tls.authority))
            context.load_cert_chain(str(tls.certificate), str(tls.key))
            self._client.tls_set_context(judge_at(context, self._clock))
        self._client.connect(
            self._settings.host,
            self._settings.port,
            keepalive=self._settings.keepalive,
            clean_start=clean_start,
            properties=_connect_properties(self._settings),
        )

    async def _subscribe(self) -> None:
        options = SubscribeOptions(qos=AT_LEAST_ONCE)
        result, identity = self._client.subscribe([(name, options) for name in self._topics])
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or identity is None:
            raise LinkDownError(f"can't subscribe: {result.name}")
        answer = await self._expect("subscribe", identity)
        if answer.is_failure:
            self._inbox.count("subscribe-refused", topic=", ".join(self._topics), text=str(answer))

    def _expect(self, what: str, identity: int) -> asyncio.Future[ReasonCode]:
        return self._waiting.setdefault((what, identity), self._loop.create_future())

    def _answer(self, what: str, identity: int, reason: ReasonCode) -> None:
        future = self._waiting.get((what, identity))
        if future is not None and not future.done():
            future.set_result(reason)

    def _fail(self, reason: str) -> None:
        """The connection is over: everyone who waits for it hears so."""
        self.is_open = False
        self.lost.set(reason)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LinkDownError(reason))
                future.exception()  # seen: not all of them are being awaited still

    def _take(self, name: str, payload: bytes, identity: int, qos: int) -> None:
        self._received(name, len(payload))
        self._inbox.take(name, payload)
        self._room.release()
        self._client.ack(identity, qos)

    # From here on: paho's thread.

    def _post(self, work: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended; nobody is left to tell
            self._loop.call_soon_threadsafe(work, *arguments)

    def _on_connect(
        self,
        _client: Client,
        _data: Any,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._post(self._answer, "connect", 0, reason)

    def _on_disconnect(
        self,
        _client: Client,
        _data: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._post(self._fail, f"connection lost: {reason}")

    def _on_publish(
        self, _client: Client, _data: Any, identity: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        self._post(self._answer, "publish", identity, reason)

    def _on_subscribe(
        self,
        _client: Client,
        _data: Any,
        identity: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        worst = next((reason for reason in reasons if reason.is_failure), reasons[0])
        self._post(self._answer, "subscribe", identity, worst)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        waited = 0.0
        step = min(0.2, self._settings.queue_seconds)
        while not self._room.acquire(timeout=step):
            waited += step
            if self._closing.is_set():
                return
            if waited >= self._settings.queue_seconds:
                self._post(self._inbox.count, "queue-overflow")
                self._post(self._fail, "messages came faster than they could be taken")
                return
        try:
            name = message.topic
        except UnicodeDecodeError:
            name = "(not UTF-8)"
        self._post(self._take, name, message.payload, message.mid, message.qos)


def _purpose(channel: str) -> str:
    """In the ledger; an acknowledgement belongs to what it acknowledges."""
    purpose = channel.partition("/")[0]
    return purpose if purpose in _PURPOSES else "other"


def _presence(boot: str, *, online: bool) -> bytes:
    return encode_json(Presence(online=online, boot=boot))


def _connect_properties(settings: LinkSettings) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
    properties.SessionExpiryInterval = settings.session_expiry
    properties.ReceiveMaximum = settings.receive_maximum
    properties.MaximumPacketSize = MAX_MESSAGE_BYTES + HEADER_ALLOWANCE
    return properties
