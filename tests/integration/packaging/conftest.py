"""The real broker with the files of packaging/mosquitto, and a certificate authority for it."""

import datetime as dt
import getpass
import ipaddress
import queue
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

FILES = Path(__file__).parents[3] / "packaging" / "mosquitto"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
SECONDS = 10.0


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    """A certificate authority that writes ``<file>.pem`` and ``<file>.key``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name("Edgeward device authority")
        self._now = dt.datetime.now(dt.UTC)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = self._builder(self._name, self._key).add_extension(constraints, critical=True)
        self._write("ca", builder.sign(self._key, hashes.SHA256()))

    def issue(self, file: str, common: str) -> x509.Certificate:
        """A certificate for ``common``; the one called ``broker`` is a server's, the others are clients'."""
        key = ec.generate_private_key(ec.SECP256R1())
        server = file == "broker"
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(name(common), key).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if server:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        self._write(file, certificate)
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (self.folder / f"{file}.key").write_bytes(key.private_bytes(*pem))
        return certificate

    def revoke(self, *certificates: x509.Certificate) -> None:
        """Write ``revoked.pem``, the list of these."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(self._now - dt.timedelta(hours=1))
            .next_update(self._now + dt.timedelta(days=1))
        )
        for certificate in certificates:
            revoked = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(revoked.revocation_date(self._now).build())
        signed = builder.sign(self._key, hashes.SHA256())
        (self.folder / "revoked.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - dt.timedelta(hours=1))
            .not_valid_after(self._now + dt.timedelta(days=1))
        )

    def _write(self, file: str, certificate: x509.Certificate) -> None:
        (self.folder / f"{file}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


class Broker:
    """One mosquitto process with our files, the placeholders filled in."""

    def __init__(self, folder: Path, pki: Path) -> None:
        self.pki = pki
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
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

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(SECONDS)
            self._process = None


class Peer:
    """A paho client whose callbacks end in queues."""

    def __init__(self, broker: Broker, file: str, client_id: str, will: str | None) -> None:
        self.connected: queue.Queue[ReasonCode] = queue.Queue()
        self.lost: queue.Queue[ReasonCode] = queue.Queue()
        self.acknowledged: queue.Queue[ReasonCode] = queue.Queue()
        self.subscribed: queue.Queue[list[ReasonCode]] = queue.Queue()
        self.messages: queue.Queue[MQTTMessage] = queue.Queue()
        self._broker = broker
        self._client = client = Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, reconnect_on_failure=False
        )
        context = ssl.create_default_context(cafile=broker.pki / "ca.pem")
        context.load_cert_chain(broker.pki / f"{file}.pem", broker.pki / f"{file}.key")
        client.tls_set_context(context)
        if will:
            client.will_set(will, b"gone", qos=1, retain=True)
        client.on_connect = lambda _c, _u, _f, reason, _p: self.connected.put(reason)
        client.on_disconnect = lambda _c, _u, _f, reason, _p: self.lost.put(reason)
        client.on_publish = lambda _c, _u, _m, reason, _p: self.acknowledged.put(reason)
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.subscribed.put(reasons)
        client.on_message = lambda _c, _u, message: self.messages.put(message)

    def open(self) -> ReasonCode:
        self._client.connect("127.0.0.1", self._broker.port, clean_start=True)
        self._client.loop_start()
        return self.connected.get(timeout=SECONDS)

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


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "pki"
    folder.mkdir()
    made = Authority(folder)
    made.issue("broker", "127.0.0.1")
    made.issue("hub", "Edgeward-Hub")
    made.issue("camera-1", "camera-1")
    made.issue("camera-2", "camera-2")
    return made


@pytest.fixture
def stopped_broker(tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto (Debian package mosquitto) is not installed")
    broker = Broker(tmp_path, authority.folder)
    yield broker
    broker.stop()


@pytest.fixture
def broker(stopped_broker: Broker) -> Broker:
    stopped_broker.start()
    return stopped_broker


PeerOf = Callable[..., Peer]


@pytest.fixture
def peer(stopped_broker: Broker) -> Iterator[PeerOf]:
    """``peer(file)`` connects with that certificate; ``connected=False`` leaves that to the test."""
    made: list[Peer] = []

    def connect(file: str, *, client_id: str = "", will: str | None = None, connected: bool = True) -> Peer:
        made.append(Peer(stopped_broker, file, client_id or file, will))
        if connected:
            reason = made[-1].open()
            assert not reason.is_failure, reason
        return made[-1]

    yield connect
    for one in made:
        one.close()
