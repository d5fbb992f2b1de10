import re
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from msgspec.structs import replace

from agent.protocol.access import TlsFiles
from agent.web.tls import TlsError, server_context
from tests.support.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    return authority.issue("device")


def test_nothing_older_than_tls_1_2_is_spoken(files: TlsFiles) -> None:
    context = server_context(files)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE


def test_with_an_authority_of_clients_a_certificate_is_asked_for(
    files: TlsFiles, authority: Authority
) -> None:
    context = server_context(replace(files, client_ca=str(authority.certificate)))
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("what", "content", "said"),
    [
        ("certificate", None, r"tls\.certificate .*spoilt: No such file"),
        ("key", None, r"tls\.key .*spoilt: No such file"),
        ("client_ca", None, r"tls\.client_ca .*spoilt: No such file"),
        ("certificate", b"", r"tls\.certificate .*spoilt, tls\.key .*: not a certificate and its key in PEM"),
        ("key", b"garbage", r"not a certificate and its key in PEM"),
        ("client_ca", b"garbage", r"tls\.client_ca .*spoilt: no certificate in PEM"),
    ],
)
def test_a_file_that_cant_be_used_is_named(
    files: TlsFiles, tmp_path: Path, what: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / "spoilt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TlsError, match=said):
        server_context(replace(files, **{what: str(path)}))


def test_the_key_of_another_certificate_is_refused(files: TlsFiles, authority: Authority) -> None:
    other = authority.issue("other")
    with pytest.raises(TlsError, match="the key is not that of the certificate"):
        server_context(replace(files, key=other.key))


def test_a_key_that_asks_for_a_password_is_refused_and_asks_nobody(files: TlsFiles) -> None:
    path = Path(files.key)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(TlsError, match=f"tls.key {re.escape(files.key)}: the file is encrypted"):
        server_context(files)
