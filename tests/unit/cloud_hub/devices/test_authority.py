"""Certificates of the hub's authority, judged by OpenSSL as the hub, the broker and the devices do."""

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509

from cloud_hub.cli import main
from cloud_hub.devices.authority import HUB_NAME, DeviceAuthority, create_authority
from cloud_hub.errors import ConflictError, InputError
from tests.unit.cloud_hub.hub_world import csr


@pytest.fixture
def authority(tmp_path: Path) -> DeviceAuthority:
    create_authority(tmp_path / "authority", time.time())
    return DeviceAuthority(tmp_path / "authority")


@pytest.fixture
def files(authority: DeviceAuthority, tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    authority.issue_broker_files(folder, ["broker.example", "127.0.0.1"], 30, time.time())
    return folder


def client_name_seen_by_the_broker(files: Path, address: str) -> str:
    """Shake hands as the hub with the broker; both sides verify as strictly as Python 3.13 does by default."""
    broker = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files / "ca.pem")
    broker.verify_mode = ssl.CERT_REQUIRED
    broker.load_cert_chain(files / "broker.pem", files / "broker.key")
    hub = ssl.create_default_context(cafile=files / "ca.pem")
    hub.load_cert_chain(files / "hub.pem", files / "hub.key")
    for context in (broker, hub):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()
    seen: list[str] = []

    def serve() -> None:
        with broker.wrap_socket(theirs, server_side=True) as connection:
            certificate = connection.getpeercert()
            assert certificate is not None
            seen.append(str(certificate["subject"]))
            connection.sendall(b".")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with hub.wrap_socket(ours, server_hostname=address) as connection:
            connection.recv(1)
    finally:
        thread.join(10)
    return seen[0]


@pytest.mark.parametrize("address", ["broker.example", "127.0.0.1"])
def test_the_hub_and_the_broker_know_each_other(files: Path, address: str) -> None:
    assert HUB_NAME in client_name_seen_by_the_broker(files, address)


def test_keys_are_for_their_owner_only(files: Path) -> None:
    assert {(files / name).stat().st_mode & 0o777 for name in ("broker.key", "hub.key")} == {0o600}


def test_files_that_are_there_are_not_replaced(authority: DeviceAuthority, files: Path) -> None:
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    with pytest.raises(ConflictError, match=r"broker\.pem"):
        authority.issue_broker_files(files, ["other.example"], 30, time.time())
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


@pytest.mark.parametrize(
    ("address", "days", "words"),
    [
        ("not a host", 30, "'not a host': neither"),
        ("", 30, "neither"),
        ("broker.example", 0, "days: 0, 1-3650"),
    ],
)
def test_a_wrong_wish_is_named(
    authority: DeviceAuthority, tmp_path: Path, address: str, days: int, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        authority.issue_broker_files(tmp_path / "tls", [address], days, time.time())
    assert not (tmp_path / "tls").exists()


def test_a_devices_certificate_names_the_authority(authority: DeviceAuthority) -> None:
    issued = authority.issue(csr("camera-1"), "camera-1", 30, time.time())
    certificate = x509.load_pem_x509_certificate(issued.pem.encode())
    own = x509.load_pem_x509_certificate(authority.pem.encode())
    of_issuer = certificate.extensions.get_extension_for_class(
        x509.AuthorityKeyIdentifier
    ).value.key_identifier
    assert of_issuer == own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_the_command_writes_what_the_hubs_settings_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "hub")]) == 0
    out = tmp_path / "hub" / "tls"
    wish = ["broker-files", "--config", str(tmp_path / "hub" / "hub.toml"), "--address", "127.0.0.1"]
    assert main([*wish, "--out", str(out)]) == 0
    assert HUB_NAME in client_name_seen_by_the_broker(out, "127.0.0.1")
    assert main([*wish, "--out", str(out)]) == 1
    assert "name a new folder" in capsys.readouterr().err
