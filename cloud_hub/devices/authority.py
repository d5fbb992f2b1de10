"""The authority that gives devices their client certificates (ECDSA P-256, X.509)."""

import datetime as dt
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from cloud_hub.errors import InputError

CA_DAYS = 3650
CLOCK_SKEW = dt.timedelta(minutes=5)


class Certificate(Struct, frozen=True, kw_only=True):
    """An issued client certificate."""

    pem: str
    sha256: str
    """Of its DER bytes."""
    expires: float


class DeviceAuthority:
    """``ca.pem`` and ``ca.key`` in one folder."""

    def __init__(self, folder: Path) -> None:
        self.pem = (folder / "ca.pem").read_text(encoding="ascii")
        self._certificate = x509.load_pem_x509_certificate(self.pem.encode())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{folder / 'ca.key'}: an elliptic curve key is expected")
        self._key = key

    def issue(self, csr_pem: str, device: str, days: int, now: float) -> Certificate:
        """Sign a device's request.

        Raises:
            InputError: not a CSR, its signature does not hold, or its common name is not ``device``.
        """
        request = _checked_request(csr_pem, device)
        start = dt.datetime.fromtimestamp(now, dt.UTC)
        end = start + dt.timedelta(days=days)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)]))
            .issuer_name(self._certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start - CLOCK_SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Certificate(
            pem=certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
            sha256=certificate.fingerprint(hashes.SHA256()).hex(),
            expires=end.timestamp(),
        )


def _checked_request(csr_pem: str, device: str) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
    except ValueError as error:
        raise InputError(f"csr: not a PEM certificate signing request: {error}") from error
    if not request.is_signature_valid:
        raise InputError("csr: its signature does not hold")
    if not isinstance(request.public_key(), ec.EllipticCurvePublicKey):
        raise InputError("csr: its key must be an elliptic curve key (P-256)")
    names = [str(entry.value) for entry in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device]:
        raise InputError(f"csr: its common name is {names}, it must be the device id {device!r}")
    return request


def create_authority(folder: Path, now: float) -> None:
    """Make a new CA; ``ca.key`` is readable by its owner only.

    Raises:
        FileExistsError: the folder has one already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Edgeward device authority")])
    start = dt.datetime.fromtimestamp(now, dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCK_SKEW)
        .not_valid_after(start + dt.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_ca_usage(), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(folder / "ca.key", private)
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read.

    Raises:
        FileExistsError: it is there already.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
