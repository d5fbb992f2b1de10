"""A hub with people: tokens of every role, approvers with keys, devices that only exist as reports."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tuf.api.metadata import Metadata, Targets

from agent.protocol.state import DeploymentReport, OutboxReport, Phase, Reason, ReportedState
from cloud_hub.signing.keys import open_key

APPROVERS = ("alice", "bob", "carol")


def csr(device: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


class People:
    """Speak to a hub's API as anyone; ``http`` may be a test client or a real one."""

    def __init__(self, http: httpx.Client, tokens: Mapping[str, str], keys: Path) -> None:
        self.http = http
        self.tokens = tokens
        self.keys = keys

    def call(self, who: str | None, method: str, path: str, **parts: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        return self.http.request(method, path, headers=headers, **parts)

    def ok(self, who: str, method: str, path: str, **parts: Any) -> Any:
        response = self.call(who, method, path, **parts)
        assert response.is_success, response.text
        return response.json()

    def upload(self, files: Mapping[str, bytes], release: int = 1, who: str = "author") -> None:
        for filename, data in files.items():
            self.ok(who, "PUT", f"/v1/releases/digits/{release}/files/{filename}", content=data)

    def submit(self, release: int = 1, who: str = "author") -> httpx.Response:
        return self.call(who, "POST", f"/v1/releases/digits/{release}/submit")

    def sign(self, approver: str, *, who: str = "approver") -> httpx.Response:
        """Sign the open draft blindly: the approver's client is tested elsewhere."""
        draft = self.call(who, "GET", "/v1/models/digits/draft").content
        metadata = Metadata[Targets].from_bytes(draft)
        signature = open_key(self.keys / "approvers", approver).sign(metadata.signed_bytes)
        body = {
            "keyid": signature.keyid,
            "sig": signature.signature,
            "version": metadata.signed.version,
        }
        return self.call(who, "POST", "/v1/models/digits/draft/signatures", json=body)

    def publish(self, files: Mapping[str, bytes], release: int = 1) -> None:
        self.upload(files, release)
        assert self.submit(release).is_success
        for approver in APPROVERS[:2]:
            response = self.sign(approver)
            assert response.is_success, response.text
        assert response.json()["published"]

    def enrol(self, device: str) -> dict[str, Any]:
        token = self.ok("operator", "POST", "/v1/enrolment-tokens", json={"device": device})["token"]
        body = {"token": token, "device": device, "hardware_class": "x86-64", "csr": csr(device)}
        response = self.http.post("/v1/enrol", json=body)
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        return answer


def assignments(document: str) -> dict[str, str]:
    """Deployment by target path, of a director's document."""
    targets = json.loads(document)["signed"]["targets"]
    return {path: target["custom"]["deployment"] for path, target in targets.items()}


def report(
    device: str,
    *deployments: tuple[str, int, Phase],
    boot: str = "boot-1",
    sequence: int = 1,
    refusal: Reason | None = None,
    reason: str = "p99 12.0 ms over its budget of 5.0 ms",
) -> ReportedState:
    """A report of deployments as (id, release, phase) of ``digits``."""
    return ReportedState(
        device=device,
        agent_version="0",
        hardware_class="x86-64",
        boot=boot,
        sequence=sequence,
        time=1.0,
        held=False,
        inference_address=None,
        serving=(),
        deployments=tuple(
            DeploymentReport(
                deployment=name,
                model="digits",
                release=release,
                phase=phase,
                since=float(sequence),
                reason=None if phase is Phase.COMMITTED else Reason(code="latency-over-budget", text=reason),
            )
            for name, release, phase in deployments
        ),
        outbox=OutboxReport(epoch="e1", recorded=0, acknowledged=0, pending=0, dropped={}, quarantined=0),
        errors={},
        refusal=refusal,
    )


def report_bytes(state: ReportedState) -> bytes:
    return msgspec.json.encode(state)
