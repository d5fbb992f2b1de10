"""The real broker with the files of packaging/mosquitto, and a certificate authority for it."""

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.transport.settings import TlsFiles
from tests.support.mosquitto import MOSQUITTO, Broker, Peer


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
        pki = stopped_broker.pki
        files = TlsFiles(certificate=pki / f"{file}.pem", key=pki / f"{file}.key", authority=pki / "ca.pem")
        made.append(Peer(stopped_broker.port, files, client_id or file, will))
        if connected:
            reason = made[-1].open()
            assert not reason.is_failure, reason
        return made[-1]

    yield connect
    for one in made:
        one.close()
