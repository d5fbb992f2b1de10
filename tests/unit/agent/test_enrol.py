"""Enrolment against a hub on loopback: what is on the device afterwards, and after a failure."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from agent.config import AgentConfig, DeviceConfig
from agent.enrol import enrol_device
from agent.enrolled import BROKER_FILE, IDENTITY_FOLDER, TRUST_FILE
from agent.protocol.codec import decode_json, encode_json
from agent.protocol.enrolment import BrokerAddress, EnrolmentRequest, EnrolmentResponse
from agent.protocol.verification import Mark
from agent.store.errors import StoreError
from agent.store.trust_db import TrustDatabase
from agent.transport.errors import EnrolmentError, IdentityError
from agent.transport.identity_files import IdentityFiles
from tests.unit.transport.test_identity import Authority

ROOT = '{"signed":{"_type":"root"}}'
TOKEN = f"ew1.{'A' * 22}.{hashlib.sha256(ROOT.encode()).hexdigest()}"
BROKER = BrokerAddress(host="127.0.0.1", port=8883, tls=True)


class Hub:
    """Issues certificates over HTTP; ``root`` and ``issued_to`` are what a hostile one would change."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.requests: list[EnrolmentRequest] = []
        self.root = ROOT
        self.issued_to: str | None = None
        self.refuses = False

    def answer(self, body: bytes) -> bytes | None:
        request = decode_json(body, EnrolmentRequest)
        self.requests.append(request)
        if self.refuses:
            return None
        return encode_json(
            EnrolmentResponse(
                device=request.device,
                certificate=self.authority.issue(request.csr, name=self.issued_to),
                authority=self.authority.pem,
                broker=BROKER,
                root=self.root,
                minimum_versions={"timestamp": 4, "snapshot": 2},
            )
        )


class Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]

    def do_POST(self) -> None:
        answer = self.hub.answer(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(403 if answer is None else 201)
        self.end_headers()
        self.wfile.write(answer or b'{"title":"Forbidden","detail":"the token was used already"}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name the base class has
        del format, args


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def url(hub: Hub) -> Iterator[str]:
    handler = type("HandlerOfThisTest", (Handler,), {"hub": hub})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return AgentConfig(
        device=DeviceConfig(id="camera-1", hardware_class="cpu", state_dir=str(tmp_path / "state"))
    )


def identity(config: AgentConfig) -> IdentityFiles:
    return IdentityFiles.within(config.state / IDENTITY_FOLDER)


def test_an_enrolled_device_has_identity_trust_and_broker(hub: Hub, url: str, config: AgentConfig) -> None:
    enrol_device(config, url, TOKEN)
    request = hub.requests[0]
    assert (request.token, request.device, request.hardware_class) == (TOKEN, "camera-1", "cpu")
    assert "PRIVATE" not in request.csr
    assert identity(config).complete
    assert decode_json((config.state / BROKER_FILE).read_bytes(), BrokerAddress) == BROKER
    trust = TrustDatabase(config.state / TRUST_FILE)
    state = trust.load()
    trust.close()
    assert state.root == ROOT.encode()
    assert set(state.marks) == {
        Mark(role="timestamp", keys="", version=4),
        Mark(role="snapshot", keys="", version=2),
    }


def test_a_refusal_leaves_a_key_to_try_again_with(hub: Hub, url: str, config: AgentConfig) -> None:
    hub.refuses = True
    with pytest.raises(EnrolmentError, match="the token was used already"):
        enrol_device(config, url, TOKEN)
    assert not identity(config).complete
    assert not (config.state / BROKER_FILE).exists()
    key = identity(config).key.read_bytes()
    hub.refuses = False
    enrol_device(config, url, TOKEN)
    assert identity(config).complete
    assert identity(config).key.read_bytes() == key


def test_another_root_than_the_tokens_is_refused_before_anything_is_trusted(
    hub: Hub, url: str, config: AgentConfig
) -> None:
    hub.root = '{"signed":{"_type":"root","of":"an attacker"}}'
    with pytest.raises(EnrolmentError, match="root"):
        enrol_device(config, url, TOKEN)
    assert not (config.state / TRUST_FILE).exists()
    assert not identity(config).complete


def test_a_certificate_of_another_device_is_refused(hub: Hub, url: str, config: AgentConfig) -> None:
    hub.issued_to = "camera-2"
    with pytest.raises(IdentityError, match="camera-2"):
        enrol_device(config, url, TOKEN)
    assert not identity(config).complete
    assert not (config.state / BROKER_FILE).exists()


def test_a_new_certificate_keeps_the_key_and_the_trust(hub: Hub, url: str, config: AgentConfig) -> None:
    enrol_device(config, url, TOKEN)
    key, certificate = identity(config).key.read_bytes(), identity(config).certificate.read_bytes()
    enrol_device(config, url, TOKEN)
    assert identity(config).key.read_bytes() == key
    assert identity(config).certificate.read_bytes() != certificate
    assert hub.requests[0].csr != ""


def test_trust_is_never_replaced_by_enrolling_at_another_hub(hub: Hub, url: str, config: AgentConfig) -> None:
    enrol_device(config, url, TOKEN)
    certificate = identity(config).certificate.read_bytes()
    hub.root = '{"signed":{"_type":"root","of":"another hub"}}'
    other = f"ew1.{'B' * 22}.{hashlib.sha256(hub.root.encode()).hexdigest()}"
    with pytest.raises(StoreError, match="holds another root of trust already"):
        enrol_device(config, url, other)
    assert identity(config).certificate.read_bytes() == certificate
