"""Identity on a real broker: Mosquitto asks for the device's certificate and takes its name from it."""

import asyncio
import datetime as dt
import ipaddress
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.protocol.topics import Channel
from agent.store.durable_file import create_durable, write_durable
from agent.transport.backoff import Backoff
from agent.transport.errors import PublishRefusedError
from agent.transport.identity import create_key, signing_request, store_certificate
from agent.transport.identity_files import IdentityFiles
from agent.transport.mqtt import MqttLink
from agent.transport.settings import LinkSettings, TlsFiles
from tests.support.ports import free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(
    MOSQUITTO is None,
    reason="MISSING TOOL: mosquitto (apt install mosquitto); client certificates are not tested",
)

CONFIGURATION = """
listener {port} 127.0.0.1
cafile {folder}/ca.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
require_certificate true
use_identity_as_username true
acl_file {folder}/acl
persistence false
user root
"""
ACL = """
user cam-1
topic write edgeward/v1/cam-1/reported
topic write edgeward/v1/cam-1/presence
topic read edgeward/v1/cam-1/#
"""


class Authority:
    """Makes a certificate authority, the broker's certificate, and the devices'."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.pem = self._sign(self._name, self._key.public_key(), authority=True)

    def broker(self) -> tuple[str, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._sign(name, key.public_key(), authority=False), pem

    def device(self, csr: str) -> str:
        request = x509.load_pem_x509_csr(csr.encode())
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self._sign(request.subject, key, authority=False)

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> str:
        now = dt.datetime.now(dt.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def port(tmp_path: Path, authority: Authority) -> Iterator[int]:
    """A Mosquitto that wants client certificates; its port."""
    number = free_port()
    certificate, key = authority.broker()
    (tmp_path / "ca.crt").write_text(authority.pem)
    (tmp_path / "broker.crt").write_text(certificate)
    (tmp_path / "broker.key").write_bytes(key)
    (tmp_path / "acl").write_text(ACL)
    (tmp_path / "acl").chmod(0o600)
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(CONFIGURATION.format(port=number, folder=tmp_path))
    assert MOSQUITTO is not None
    with subprocess.Popen(
        [MOSQUITTO, "-c", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_listening(process, number)
            yield number
        finally:
            process.kill()


def wait_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, "mosquitto ended at once"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    raise AssertionError(f"mosquitto does not listen on {port}")


def identity(folder: Path, authority: Authority, device: str) -> TlsFiles:
    files = IdentityFiles.within(folder / device)
    create_key(files, create_durable)
    store_certificate(
        files, device, authority.device(signing_request(files, device)), authority.pem, write_durable
    )
    return files.tls()


def link_to(port: int, tls: TlsFiles | None) -> MqttLink:
    settings = LinkSettings(
        host="127.0.0.1", port=port, tls=tls, connect_seconds=3.0, backoff=Backoff(minimum=0.05, maximum=0.1)
    )
    return MqttLink(settings, device="cam-1", boot="b1")


async def failed(link: MqttLink) -> str:
    """Run the link until a connection has failed; why it did."""
    async with link, asyncio.timeout(15):
        while link.last_problem is None:  # noqa: ASYNC110 - the link has no event for a failure, only for success
            await asyncio.sleep(0.01)
        assert not link.is_connected
        return link.last_problem


async def test_an_enrolled_device_connects_and_keeps_to_its_topics(
    tmp_path: Path, port: int, authority: Authority
) -> None:
    async with link_to(port, identity(tmp_path, authority, "cam-1")) as link, asyncio.timeout(15):
        await link.connected.wait()
        await link.publish(Channel.REPORTED, b"{}")
        with pytest.raises(PublishRefusedError, match="telemetry: the broker refused it: Not authorized"):
            await link.publish(Channel.TELEMETRY, b"{}")
        await link.publish(Channel.REPORTED, b"{}")
        assert link.errors == {}


async def test_a_certificate_of_another_authority_is_not_let_in(
    tmp_path: Path, port: int, authority: Authority
) -> None:
    stranger = identity(tmp_path, Authority(), "cam-1")
    (tmp_path / "trusted.crt").write_text(authority.pem)
    tls = TlsFiles(certificate=stranger.certificate, key=stranger.key, authority=tmp_path / "trusted.crt")
    await failed(link_to(port, tls))


async def test_a_broker_of_another_authority_is_not_talked_to(tmp_path: Path, port: int) -> None:
    reason = await failed(link_to(port, identity(tmp_path, Authority(), "cam-1")))
    assert "CERTIFICATE_VERIFY_FAILED" in reason


async def test_a_device_without_certificate_is_not_let_in(port: int) -> None:
    await failed(link_to(port, None))
