"""The device's identity: an ECDSA P-256 key that never leaves the device, its CSR, and the certificate for it."""

from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.transport.errors import IdentityError, IdentityExistsError, IdentityMissingError
from agent.transport.identity_files import IdentityFiles

SECRET = 0o600
PUBLIC = 0o644


class WriteFile(Protocol):
    """A durable write (``agent.store.durable_file.write_durable``, given by whoever wires the rooms together)."""

    def __call__(self, path: Path, data: bytes, *, mode: int) -> None: ...


def create_key(files: IdentityFiles, create: WriteFile) -> None:
    """Make the device's key (0600).

    Args:
        files: where.
        create: durable write that never replaces (``agent.store.durable_file.create_durable``).

    Raises:
        IdentityExistsError: there is a key already; it is untouched.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        create(files.key, pem, mode=SECRET)
    except FileExistsError as error:
        raise IdentityExistsError(f"{files.key}: there is a key already; it is not replaced") from error


def signing_request(files: IdentityFiles, device: str) -> str:
    """A CSR (PEM) for the key, with the device id as common name.

    Raises:
        IdentityMissingError: there is no key.
        IdentityError: the key can't be read, or others may read it.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    request = (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(load_key(files.key), hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def store_certificate(
    files: IdentityFiles, device: str, certificate: str, authority: str, write: WriteFile
) -> None:
    """Check what the hub issued, then store it beside the key.

    Args:
        files: where.
        device: device id the certificate must name.
        certificate: PEM.
        authority: PEM of the authority that signed it.
        write: durable write (``agent.store.durable_file.write_durable``).

    Raises:
        IdentityError: not for this key or device, or not signed by the authority; nothing was stored.
    """
    key = load_key(files.key)
    try:
        issued = x509.load_pem_x509_certificate(certificate.encode())
        issuer = x509.load_pem_x509_certificate(authority.encode())
        issued.verify_directly_issued_by(issuer)
    except Exception as error:  # cryptography raises ValueError, TypeError or InvalidSignature here
        raise IdentityError(
            f"the certificate issued for {device} is not valid: {str(error) or type(error).__name__}"
        ) from error
    if issued.public_key() != key.public_key():
        raise IdentityError(f"the certificate issued for {device} is for another key")
    names = [attribute.value for attribute in issued.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device]:
        raise IdentityError(f"the certificate is issued for {names}, not for {device!r}")
    write(files.authority, authority.encode(), mode=PUBLIC)
    write(files.certificate, certificate.encode(), mode=PUBLIC)


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The device's key.

    Raises:
        IdentityMissingError: there is none.
        IdentityError: it can't be read, or others may read it.
    """
    try:
        mode = path.stat().st_mode & 0o777
        pem = path.read_bytes()
    except FileNotFoundError as error:
        raise IdentityMissingError(f"{path}: there is no key yet") from error
    if mode & 0o077:
        raise IdentityError(f"{path}: mode {mode:04o} lets others read the key; allowed: 0600")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"{path}: not a private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError(f"{path}: a {type(key).__name__}; allowed: ECDSA P-256")
    return key
