"""The real Mosquitto with the files of packaging/mosquitto, and clients with certificates."""

import getpass
import queue
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from agent.transport.settings import TlsFiles
from tests.support.ports import free_port

FILES = Path(__file__).parents[2] / "packaging" / "mosquitto"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
SECONDS = 10.0


class Broker:
    """One mosquitto process with our files, the placeholders filled in."""

    def __init__(self, folder: Path, pki: Path) -> None:
        self.pki = pki
        self.port = free_port()
        (folder / "data").mkdir()
        values = {
            "ADDRESS": "127.0.0.1",
            "PORT": str(self.port),
            "USER": getpass.getuser(),
            "CONFIG": str(folder),
            "PKI": str(pki),
            "DATA": str(folder / "data"),
        }
        text = (FILES / "mosquitto.conf").read_text()
        for placeholder, value in values.items():
            text = text.replace(f"@{placeholder}@", value)
        if not (pki / "revoked.pem").exists():
            text = text.replace(f"crlfile {pki}/revoked.pem\n", "")
        self.config = folder / "mosquitto.conf"
        self.config.write_text(text)
        shutil.copy(FILES / "acl", folder / "acl")
        (folder / "acl").chmod(0o600)
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self.config], stderr=log, stdout=log)
        deadline = time.monotonic() + SECONDS
        while True:  # the broker says nowhere else that it listens
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except ConnectionRefusedError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.02)
            else:
                return

    def wait_until_it_says(self, words: str) -> None:
        """Wait for a line of the broker's own log."""
        deadline = time.monotonic() + SECONDS
        while words not in self._log.read_text():
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def reload(self) -> None:
        """Have it read its files again, as ``systemctl reload`` does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(SECONDS)
            self._process = None


class Peer:
    """A paho client whose callbacks end in queues."""

    def __init__(self, port: int, files: TlsFiles, client_id: str, will: str | None = None) -> None:
        self.connected: queue.Queue[ReasonCode] = queue.Queue()
        self.lost: queue.Queue[ReasonCode] = queue.Queue()
        self.acknowledged: queue.Queue[ReasonCode] = queue.Queue()
        self.subscribed: queue.Queue[list[ReasonCode]] = queue.Queue()
        self.messages: queue.Queue[MQTTMessage] = queue.Queue()
        self._port = port
        self._client = client = Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, reconnect_on_failure=False
        )
        context = ssl.create_default_context(cafile=files.authority)
        context.load_cert_chain(files.certificate, files.key)
        client.tls_set_context(context)
        if will:
            client.will_set(will, b"gone", qos=1, retain=True)
        client.on_connect = lambda _c, _u, _f, reason, _p: self.connected.put(reason)
        client.on_disconnect = lambda _c, _u, _f, reason, _p: self.lost.put(reason)
        client.on_publish = lambda _c, _u, _m, reason, _p: self.acknowledged.put(reason)
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.subscribed.put(reasons)
        client.on_message = lambda _c, _u, message: self.messages.put(message)

    def open(self) -> ReasonCode:
        self._client.connect("127.0.0.1", self._port, clean_start=True)
        self._client.loop_start()
        return self.connected.get(timeout=SECONDS)

    def gets_in(self) -> bool:
        """Try to connect; under TLS 1.3 a refusal comes after the client's side of the handshake."""
        try:
            self._client.connect("127.0.0.1", self._port, clean_start=True)
        except (ssl.SSLError, ConnectionError):
            return False
        self._client.loop_start()
        deadline = time.monotonic() + SECONDS
        while self.connected.empty() and self.lost.empty():
            assert time.monotonic() < deadline, "the broker neither takes nor refuses"
            time.sleep(0.02)
        return not self.connected.empty() and not self.connected.get().is_failure

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> ReasonCode:
        """Send with QoS 1 and give the broker's reason."""
        self._client.publish(topic, payload, qos=1, retain=retain)
        return self.acknowledged.get(timeout=SECONDS)

    def send(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1)

    def subscribe(self, pattern: str) -> None:
        self._client.subscribe(pattern, qos=1)
        self.subscribed.get(timeout=SECONDS)

    def receive(self) -> tuple[str, bytes]:
        message = self.messages.get(timeout=SECONDS)
        return message.topic, bytes(message.payload)

    def cut(self) -> None:
        """End the connection without a word, as a power loss does."""
        connection = self._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
