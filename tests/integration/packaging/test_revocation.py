"""The hub's own list of revoked certificates, at the real broker: a reload is enough."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.transport.settings import TlsFiles
from cloud_hub.devices.authority import DeviceAuthority, Revoked, create_authority
from tests.support.mosquitto import MOSQUITTO, Broker, Peer

DAY = 86_400.0


class Enrolled:
    """The hub's authority, the files it makes for a broker, and two devices."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        create_authority(folder / "authority", time.time())
        self.authority = DeviceAuthority(folder / "authority")
        self.pki = folder / "pki"
        self.authority.issue_broker_files(self.pki, ["127.0.0.1"], 30, time.time())
        self.serials = {name: self._enrol(name) for name in ("camera-1", "camera-2")}
        self.broker = Broker(folder, self.pki)

    def _enrol(self, device: str) -> str:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        csr = request.public_bytes(serialization.Encoding.PEM).decode()
        issued = self.authority.issue(csr, device, 30, time.time())
        (self.folder / f"{device}.pem").write_text(issued.pem)
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (self.folder / f"{device}.key").write_bytes(key.private_bytes(*pem))
        return issued.serial

    def peer(self, device: str) -> Peer:
        files = TlsFiles(
            certificate=self.folder / f"{device}.pem",
            key=self.folder / f"{device}.key",
            authority=self.pki / "ca.pem",
        )
        return Peer(self.broker.port, files, device)

    def gets_in(self, device: str) -> bool:
        peer = self.peer(device)
        try:
            return peer.gets_in()
        finally:
            peer.close()

    def revoke(self, device: str) -> None:
        """As ``edgeward-hub devices revoke`` and a reload of the broker do it."""
        self.authority.write_revoked([Revoked(serial=self.serials[device], at=time.time())], time.time())
        shutil.copy(self.folder / "authority" / "revoked.pem", self.pki)
        self.broker.reload()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Enrolled]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto (Debian package mosquitto) is not installed")
    made = Enrolled(tmp_path)
    made.broker.start()
    yield made
    made.broker.stop()


def test_a_revoked_device_is_refused_after_a_reload_and_the_others_stay(fleet: Enrolled) -> None:
    assert fleet.gets_in("camera-1")
    stays = fleet.peer("camera-2")
    assert not stays.open().is_failure
    fleet.revoke("camera-1")
    deadline = time.monotonic() + 20
    while fleet.gets_in("camera-1"):
        assert time.monotonic() < deadline, "the broker still lets a revoked device in"
    assert not stays.publish("edgeward/v1/camera-2/reported", b"{}").is_failure
    assert stays.lost.empty()
    stays.close()
    assert fleet.gets_in("camera-2")


def test_a_revoked_device_is_refused_after_a_restart(fleet: Enrolled) -> None:
    fleet.revoke("camera-1")
    fleet.broker.stop()
    fleet.broker.start()
    assert not fleet.gets_in("camera-1")
    assert fleet.gets_in("camera-2")
