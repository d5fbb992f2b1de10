import datetime as dt
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from agent.store.durable_file import create_durable, write_durable
from agent.transport.errors import IdentityError, IdentityExistsError, IdentityMissingError
from agent.transport.identity import create_key, signing_request, store_certificate
from agent.transport.identity_files import IdentityFiles


class Authority:
    """A certificate authority of one test."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        self.certificate = self._sign(self.name, self.key.public_key())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, csr: str, *, name: str | None = None) -> str:
        request = x509.load_pem_x509_csr(csr.encode())
        assert request.is_signature_valid
        subject = request.subject
        if name is not None:
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self._sign(subject, key).public_bytes(Encoding.PEM).decode()

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + dt.timedelta(days=1))
            .sign(self.key, hashes.SHA256())
        )


@pytest.fixture
def files(tmp_path: Path) -> IdentityFiles:
    one = IdentityFiles.within(tmp_path / "identity")
    create_key(one, create_durable)
    return one


def test_the_key_is_private_and_is_never_replaced(files: IdentityFiles) -> None:
    before = files.key.read_bytes()
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    with pytest.raises(IdentityExistsError, match="not replaced"):
        create_key(files, create_durable)
    assert files.key.read_bytes() == before


def test_the_request_names_the_device_and_proves_the_key(files: IdentityFiles) -> None:
    request = x509.load_pem_x509_csr(signing_request(files, "cam-1").encode())
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=cam-1"


def test_an_issued_certificate_completes_the_identity(files: IdentityFiles) -> None:
    with pytest.raises(IdentityMissingError, match="enrol"):
        files.tls()
    authority = Authority()
    certificate = authority.issue(signing_request(files, "cam-1"))
    store_certificate(files, "cam-1", certificate, authority.pem, write_durable)
    assert files.complete
    assert files.tls().certificate.read_text() == certificate


def test_a_certificate_that_is_not_ours_is_refused_and_not_stored(
    files: IdentityFiles, tmp_path: Path
) -> None:
    authority = Authority()
    csr = signing_request(files, "cam-1")
    other = IdentityFiles.within(tmp_path / "other")
    create_key(other, create_durable)
    wrong = {
        "for another key": authority.issue(signing_request(other, "cam-1")),
        "issued for .'cam-2'.": authority.issue(csr, name="cam-2"),
        "is not valid": Authority().issue(csr),
        "cam-1 is not valid": "no PEM",
    }
    for words, certificate in wrong.items():
        with pytest.raises(IdentityError, match=words):
            store_certificate(files, "cam-1", certificate, authority.pem, write_durable)
    assert not files.certificate.exists()


def test_a_key_that_others_may_read_is_refused(files: IdentityFiles) -> None:
    files.key.chmod(0o644)
    with pytest.raises(IdentityError, match="mode 0644 lets others read the key"):
        signing_request(files, "cam-1")


def test_no_key_or_no_key_file_is_said(tmp_path: Path) -> None:
    files = IdentityFiles.within(tmp_path)
    with pytest.raises(IdentityMissingError, match="no key yet"):
        signing_request(files, "cam-1")
    write_durable(files.key, b"rubbish", mode=0o600)
    with pytest.raises(IdentityError, match="not a private key"):
        signing_request(files, "cam-1")
