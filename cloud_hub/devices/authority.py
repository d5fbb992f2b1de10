"""The authority that gives devices, the hub and its broker their certificates (ECDSA P-256, X.509)."""

import datetime as dt
import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from cloud_hub.durable import write_durably
from cloud_hub.errors import ConflictError, InputError

CA_DAYS = 3650
HUB_NAME = "Edgeward-Hub"
"""Common name of the hub's own client certificate, to which ``packaging/mosquitto/acl`` gives every topic. Its
capitals keep it out of reach of a device id."""
INGEST_NAME = "Edgeward-Ingest"
"""Begins the common names of processes that ingest; they may hear telemetry and acknowledge it, and nothing else."""
COMMON_NAME_CHARACTERS = 64
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
"""At most 64 characters: it becomes a common name too."""
REVOKED_FILE = "revoked.pem"
CLOCK_SKEW = dt.timedelta(minutes=5)


class Certificate(Struct, frozen=True, kw_only=True):
    """An issued client certificate."""

    pem: str
    sha256: str
    """Of its DER bytes."""
    serial: str
    """Decimal."""
    expires: float


class Revoked(Struct, frozen=True, kw_only=True):
    """A certificate that counts no more."""

    serial: str
    """Decimal."""
    at: float
    """Unix seconds."""


class DeviceAuthority:
    """``ca.pem``, ``ca.key`` and ``revoked.pem`` in one folder."""

    def __init__(self, folder: Path) -> None:
        self._revoked = folder / REVOKED_FILE
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
        key = _checked_key(csr_pem, device)
        end = dt.datetime.fromtimestamp(now, dt.UTC) + dt.timedelta(days=days)
        certificate = self._builder(device, key, now, end, ExtendedKeyUsageOID.CLIENT_AUTH).sign(
            self._key, hashes.SHA256()
        )
        return Certificate(
            pem=certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
            sha256=certificate.fingerprint(hashes.SHA256()).hex(),
            serial=str(certificate.serial_number),
            expires=end.timestamp(),
        )

    @property
    def expires(self) -> float:
        """Of the authority's own certificate, Unix seconds."""
        return self._certificate.not_valid_after_utc.timestamp()

    def write_revoked(self, revoked: Iterable[Revoked], now: float) -> None:
        """Write ``revoked.pem`` anew: the list of certificates that a broker is to refuse, signed, whole.

        It says that it is good for as long as the authority: a broker with a list that has run out refuses everybody.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(dt.datetime.fromtimestamp(now, dt.UTC) - CLOCK_SKEW)
            .next_update(self._certificate.not_valid_after_utc)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(x509.CRLNumber(int(now * 1000)), critical=False)
        )
        for each in revoked:
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(int(each.serial))
                .revocation_date(dt.datetime.fromtimestamp(each.at, dt.UTC))
            )
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self._key, hashes.SHA256())
        write_durably(self._revoked, signed.public_bytes(serialization.Encoding.PEM))

    def revoked_pem(self, now: float) -> bytes:
        """The newest list, PEM; an empty one where nothing was ever revoked."""
        if not self._revoked.exists():
            self.write_revoked((), now)
        return self._revoked.read_bytes()

    def issue_broker_files(self, folder: Path, addresses: Sequence[str], days: int, now: float) -> None:
        """Write what an external broker and the hub on it need: ``ca.pem``, ``revoked.pem``, ``broker.pem``, ``hub.pem``, keys.

        Args:
            folder: a new one, or one without these files.
            addresses: DNS names and IP addresses under which the hub and the devices reach the broker.
            days: lifetime of both certificates.
            now: Unix seconds.

        Raises:
            InputError: an address is neither, or the lifetime is over the authority's own; nothing was written.
            ConflictError: the folder holds one of the files already; nothing was written.
        """
        alternatives = x509.SubjectAlternativeName([_general_name(address) for address in addresses])
        if not 1 <= days <= CA_DAYS:
            raise InputError(f"days: {days}, 1-{CA_DAYS} are allowed")
        names = ("ca.pem", "broker.pem", "broker.key", "hub.pem", "hub.key", REVOKED_FILE)
        found = [name for name in names if (folder / name).exists()]
        if found:
            raise ConflictError(f"{folder}: {', '.join(found)} is there already; name a new folder")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        end = dt.datetime.fromtimestamp(now, dt.UTC) + dt.timedelta(days=days)
        key = ec.generate_private_key(ec.SECP256R1())
        broker = self._builder(addresses[0], key.public_key(), now, end, ExtendedKeyUsageOID.SERVER_AUTH)
        _write_pair(folder, "broker", key, broker.add_extension(alternatives, critical=False), self._key)
        key = ec.generate_private_key(ec.SECP256R1())
        hub = self._builder(HUB_NAME, key.public_key(), now, end, ExtendedKeyUsageOID.CLIENT_AUTH)
        _write_pair(folder, "hub", key, hub, self._key)
        (folder / "ca.pem").write_text(self.pem, encoding="ascii")
        (folder / REVOKED_FILE).write_bytes(self.revoked_pem(now))

    def issue_ingest_files(self, folder: Path, name: str, days: int, now: float) -> str:
        """Write ``ingest-<name>.pem`` and ``ingest-<name>.key`` for one process that ingests; its common name.

        Args:
            folder: made where it is missing.
            name: of the process.
            days: lifetime.
            now: Unix seconds.

        Raises:
            InputError: the lifetime is over the authority's own, or the name is too long.
            ConflictError: the folder holds one of the files already; nothing was written.
        """
        if not 1 <= days <= CA_DAYS:
            raise InputError(f"days: {days}, 1-{CA_DAYS} are allowed")
        user = f"{INGEST_NAME}-{name}"
        if len(user) > COMMON_NAME_CHARACTERS:
            raise InputError(
                f"name {name!r}: {COMMON_NAME_CHARACTERS - len(INGEST_NAME) - 1} characters are allowed"
            )
        stem = f"ingest-{name}"
        found = [each for each in (f"{stem}.pem", f"{stem}.key") if (folder / each).exists()]
        if found:
            raise ConflictError(
                f"{folder}: {', '.join(found)} is there already; move it away to make another one"
            )
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        end = dt.datetime.fromtimestamp(now, dt.UTC) + dt.timedelta(days=days)
        key = ec.generate_private_key(ec.SECP256R1())
        client = self._builder(user, key.public_key(), now, end, ExtendedKeyUsageOID.CLIENT_AUTH)
        _write_pair(folder, stem, key, client, self._key)
        return user

    def issue_server_files(
        self, folder: Path, name: str, address: str, days: int, now: float
    ) -> tuple[Path, Path]:
        """Write ``<name>.pem`` and ``<name>.key`` for a server of the hub's own, in place of earlier ones.

        Args:
            folder: made where it is missing.
            name: of the files.
            address: DNS name or IP address under which it is reached.
            days: lifetime.
            now: Unix seconds.

        Raises:
            InputError: the address is neither.
        """
        alternative = x509.SubjectAlternativeName([_general_name(address)])
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        certificate, secret = folder / f"{name}.pem", folder / f"{name}.key"
        for path in (certificate, secret):
            path.unlink(missing_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        end = dt.datetime.fromtimestamp(now, dt.UTC) + dt.timedelta(days=days)
        builder = self._builder(address, key.public_key(), now, end, ExtendedKeyUsageOID.SERVER_AUTH)
        _write_pair(folder, name, key, builder.add_extension(alternative, critical=False), self._key)
        return certificate, secret

    def _builder(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        now: float,
        end: dt.datetime,
        usage: x509.ObjectIdentifier,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(dt.datetime.fromtimestamp(now, dt.UTC) - CLOCK_SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            # Python 3.13's default TLS context refuses a certificate without it.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        if not _HOST.fullmatch(address):
            raise InputError(f"address {address!r}: neither a DNS name nor an IP address") from None
        return x509.DNSName(address)


def _write_pair(
    folder: Path,
    name: str,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.CertificateBuilder,
    authority: ec.EllipticCurvePrivateKey,
) -> None:
    write_private(folder / f"{name}.key", _private_pem(key))
    signed = certificate.sign(authority, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _checked_key(csr_pem: str, device: str) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
    except ValueError as error:
        raise InputError(f"csr: not a PEM certificate signing request: {error}") from error
    if not request.is_signature_valid:
        raise InputError("csr: its signature does not hold")
    key = request.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InputError("csr: its key must be an elliptic curve key (P-256)")
    names = [str(entry.value) for entry in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device]:
        raise InputError(f"csr: its common name is {names}, it must be the device id {device!r}")
    return key


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
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(folder / "ca.key", _private_pem(key))
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


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
