"""A real broker's certificate, judged at trusted time: a clock in 1970 reaches the hub, an expired certificate does not."""

import asyncio
import datetime as dt
import ipaddress
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.core.trusted_time import BUILD_TIME, trusted_time
from agent.transport.backoff import Backoff
from agent.transport.mqtt import MqttLink
from agent.transport.settings import LinkSettings, TlsFiles
from agent.transport.trusted_tls import judge_at
from tests.integration.transport.test_tls import failed, wait_listening
from tests.support.ports import free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
DAY = 86_400.0

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="MISSING TOOL: mosquitto (apt install mosquitto)")


class Times:
    """An authority, a broker and a device whose certificates hold for the days that are asked for, from BUILD_TIME."""

    def __init__(
        self, folder: Path, *, authority_days: float = 3_650, broker: tuple[float, float] = (-30, 300)
    ) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate("ca", self._key, (-30, authority_days), authority=True)
        for name, days in (("broker", broker), ("cam-1", (-30.0, 3_650.0))):
            key = ec.generate_private_key(ec.SECP256R1())
            form = serialization.PrivateFormat.PKCS8
            pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
            (folder / f"{name}.key").write_bytes(pem)
            self._certificate(name, key, days)

    @property
    def tls(self) -> TlsFiles:
        return TlsFiles(
            certificate=self.folder / "cam-1.crt",
            key=self.folder / "cam-1.key",
            authority=self.folder / "ca.crt",
        )

    def _certificate(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        days: tuple[float, float],
        *,
        authority: bool = False,
    ) -> None:
        begin, end = (dt.datetime.fromtimestamp(BUILD_TIME + day * DAY, dt.UTC) for day in days)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Mosquitto with the broker's certificate, under the machine's own clock; its port."""
        port = free_port()
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\ncafile {self.folder}/ca.crt\ncertfile {self.folder}/broker.crt\n"
            f"keyfile {self.folder}/broker.key\nallow_anonymous true\npersistence false\nuser root\n"
            f"log_dest file {self.folder}/broker.log\nlog_type all\n"
        )
        config.chmod(0o644)
        assert MOSQUITTO is not None
        with subprocess.Popen([MOSQUITTO, "-c", config]) as process:
            try:
                wait_listening(process, port)
                yield port
            finally:
                process.kill()

    def link(self, port: int, *, system: float, hub: float = 0.0) -> MqttLink:
        """As the daemon makes it, with clocks of the test's choice."""
        settings = LinkSettings(
            host="127.0.0.1",
            port=port,
            tls=self.tls,
            connect_seconds=5,
            backoff=Backoff(minimum=0.05, maximum=0.1),
        )
        return MqttLink(settings, device="cam-1", boot="b", clock=lambda: trusted_time(system, hub))

    async def connects(self, **clocks: float) -> None:
        with self.listening() as port:
            async with self.link(port, **clocks) as link, asyncio.timeout(20):
                await link.connected.wait()

    async def refused(self, **clocks: float) -> str:
        """Why the link did not come about; the broker must not have heard a word of MQTT."""
        with self.listening() as port:
            problem = await failed(self.link(port, **clocks))
            heard = (self.folder / "broker.log").read_text()
            assert "as cam-1" not in heard, heard
        return problem


async def test_a_clock_in_1970_reaches_the_hub(tmp_path: Path) -> None:
    await Times(tmp_path).connects(system=0.0)


async def test_a_certificate_that_was_renewed_since_the_last_word_of_the_hub_is_no_obstacle(
    tmp_path: Path,
) -> None:
    await Times(tmp_path, broker=(40, 400)).connects(system=0.0, hub=BUILD_TIME + 5 * DAY)


async def test_what_has_expired_at_hub_signed_time_is_refused_whatever_the_clock_says(tmp_path: Path) -> None:
    problem = await Times(tmp_path, broker=(-30, 60)).refused(system=0.0, hub=BUILD_TIME + 61 * DAY)
    assert "CERTIFICATE_VERIFY_FAILED: the certificate of broker expired at" in problem


async def test_what_has_expired_at_the_machines_time_is_refused(tmp_path: Path) -> None:
    problem = await Times(tmp_path, broker=(-30, 60)).refused(system=BUILD_TIME + 61 * DAY)
    assert "if its clock is wrong, set it" in problem


async def test_what_expired_before_this_agent_was_built_is_refused(tmp_path: Path) -> None:
    assert "expired" in await Times(tmp_path, broker=(-30, -1)).refused(system=0.0)


async def test_an_authority_that_has_expired_is_refused_too(tmp_path: Path) -> None:
    problem = await Times(tmp_path, authority_days=50).refused(system=0.0, hub=BUILD_TIME + 51 * DAY)
    assert "the certificate of ca expired" in problem


async def test_another_authority_is_refused_as_ever(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = Times(tmp_path / "ours"), Times(tmp_path / "theirs")
    with theirs.listening() as port:
        assert "CERTIFICATE_VERIFY_FAILED" in await failed(ours.link(port, system=0.0))


def test_the_private_name_that_tells_the_verified_chain_is_there() -> None:
    """CPython has no public one before 3.13, and that one without dates."""
    server, client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = judge_at(ssl.create_default_context(), lambda: 0.0)
    assert int(context.verify_flags) & 0x200000
    connection = context.wrap_bio(server, client, server_hostname="localhost")
    assert callable(connection._sslobj.get_verified_chain)  # type: ignore[attr-defined]
