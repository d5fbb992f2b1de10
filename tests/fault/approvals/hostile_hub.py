"""A hub that an approver's client talks to by HTTP, and that a test may make hostile."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, TargetFile, Targets

from agent.protocol.manifest import (
    ArtifactRef,
    Budget,
    Evidence,
    GoldenRef,
    Lineage,
    Manifest,
    Probation,
    TensorSpec,
    Variant,
)
from cloud_hub.approvals.client import ApprovalOutcome, approve
from cloud_hub.approvals.remote_hub import Receipt
from cloud_hub.signing.errors import SigningError
from cloud_hub.signing.keys import create_key, file_uri, private_path, public_path
from tests.fault.trust.hub_simulator import HubSimulator

FILES = ("model.onnx", "golden.msgpack", "reference.json", "card.md", "evaluation.json", "bench.json")


class HostileHub(HubSimulator):
    """Honest until told otherwise: ``tamper`` changes the draft, ``artifacts`` are the bytes that it serves."""

    def __init__(self, folder: Path) -> None:
        super().__init__(start=datetime.now(UTC))
        self.folder = folder
        self.artifacts: dict[str, bytes] = {}
        self.open_draft: bytes | None = None
        self.shown: list[str] = []
        self._write_keys()

    def _write_keys(self) -> None:
        """Approvers whose keys are files, in a repository of their own."""
        people = {name: create_key(self.folder / "keys", name) for name in self.keys.approvers}
        self.keys.approvers = people
        self.remake()
        trust = self.folder / "trust"
        trust.mkdir()
        (trust / "root.json").write_bytes(self.store.files["root.json"])

    def submit(
        self, release: int = 1, *, model: bytes | None = None, beside: Mapping[str, bytes] | None = None
    ) -> None:
        """Register a release's files and open a draft for it; ``beside`` are files that the manifest does not name."""
        targets = {}
        for name, data in {**release_content(release, model), **(beside or {})}.items():
            sha256 = hashlib.sha256(data).hexdigest()
            self.artifacts[sha256] = data
            targets[f"models/digits/{release}/{name}"] = (len(data), sha256)
        self.open_draft = self.repository.make_draft("digits", targets)

    def list_first_version_again(self) -> None:
        """Show the model's role as it was at first, correctly signed online: only who remembers can tell."""
        self.repository.publish_role("digits", 1, self.store.files["1.digits.json"])

    def tamper(self, change: Callable[[Targets], None]) -> None:
        """Change the open draft, as only the hub can."""
        assert self.open_draft is not None
        document = Metadata[Targets].from_bytes(self.open_draft)
        change(document.signed)
        self.open_draft = document.to_bytes()

    def tamper_manifest(self, data: bytes) -> None:
        """Put other bytes in the manifest's place, with their true hash."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.artifacts[sha256] = data

        def change(draft: Targets) -> None:
            path = next(
                path
                for path in draft.targets
                if path not in self.repository.targets("digits") and "manifest" in path
            )
            draft.targets[path] = TargetFile(len(data), {"sha256": sha256}, path)

        self.tamper(change)

    def approve_as(
        self,
        name: str,
        release: int | None = 1,
        *,
        confirm: bool = True,
        key: str | None = None,
        withdraw: bool = False,
    ) -> ApprovalOutcome:
        """Run the approver's client, with ``key`` as the private key instead of the approver's own."""

        def answer(text: str) -> bool:
            self.shown.append(text)
            return confirm

        return approve(
            hub_url="http://hub.test",
            token="t",
            trust_dir=self.folder / "trust",
            key_uri=file_uri(private_path(self.folder / "keys", key or name)),
            public_key_path=public_path(self.folder / "keys", name),
            model="digits",
            release=release,
            confirm=answer,
            withdraw=withdraw,
            transport=httpx.MockTransport(self.respond),
        )

    def respond(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t"
        match request.url.path.strip("/").split("/"):
            case ["v1", "metadata", name]:
                return found(self.store.get(name))
            case ["v1", "artifacts", sha256]:
                return found(self.artifacts.get(sha256))
            case ["v1", "models", "digits", "draft"] if request.method == "POST":
                return self._propose(msgspec.json.decode(request.content, type=dict[str, int | None]))
            case ["v1", "models", "digits", "draft"]:
                return found(self.open_draft)
            case ["v1", "models", "digits", "draft", "signatures"]:
                return self._take(msgspec.json.decode(request.content, type=dict[str, str | int]))
        return found(None)

    def _propose(self, body: dict[str, int | None]) -> httpx.Response:
        """Open a withdrawal or a renewal, unless a test has put a draft in its place already."""
        release = body["withdraw"]
        if self.open_draft is None and release is not None:
            self.open_draft = self.repository.make_withdrawal("digits", release)
        elif self.open_draft is None:
            self.open_draft = self.repository.make_draft("digits", {})
        return httpx.Response(201, json={})

    def _take(self, body: dict[str, str | int]) -> httpx.Response:
        assert self.open_draft is not None
        try:
            signature = Signature(str(body["keyid"]), str(body["sig"]))
            self.open_draft = self.repository.add_signature(self.open_draft, signature)
        except SigningError as error:
            return httpx.Response(403, json={"title": "no", "status": 403, "detail": str(error)})
        published = self.repository.threshold_met(self.open_draft)
        names = self.repository.approvers("digits")
        signed_by = tuple(names[keyid] for keyid in self.repository.signers(self.open_draft))
        if published:
            self.repository.publish("digits", self.open_draft)
            self.open_draft = None
        receipt = Receipt(threshold=2, signed_by=signed_by, published=published)
        return httpx.Response(201, content=msgspec.json.encode(receipt))


def found(data: bytes | None) -> httpx.Response:
    return (
        httpx.Response(404, json={"detail": "there is none"})
        if data is None
        else httpx.Response(200, content=data)
    )


def release_content(release: int, model: bytes | None = None) -> dict[str, bytes]:
    """A release's files by name; the manifest names the others."""
    content = {name: f"{name} of release {release}".encode() for name in FILES}
    if model is not None:
        content["model.onnx"] = model
    return {"manifest.json": msgspec.json.encode(make_manifest(release, content)), **content}


def make_manifest(release: int, content: dict[str, bytes]) -> Manifest:
    def ref(name: str) -> ArtifactRef:
        data = content[name]
        return ArtifactRef(filename=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    return Manifest(
        schema=1,
        model="digits",
        release=release,
        created=0.0,
        author="dan",
        summary="Reads digits.",
        task="classification",
        labels=("0", "1"),
        inputs=(TensorSpec(name="image", datatype="FP32", shape=(-1, 64)),),
        outputs=(TensorSpec(name="scores", datatype="FP32", shape=(-1, 2)),),
        preprocessing="0-1",
        variants=(
            Variant(
                name="onnx-fp32", runtime="onnx", precision="fp32", artifact=ref("model.onnx"), accuracy=0.97
            ),
        ),
        budgets={"any": Budget(p99_ms=10, peak_memory_mib=100)},
        golden=GoldenRef(artifact=ref("golden.msgpack"), absolute_tolerance=1e-3, minimum_class_agreement=1),
        drift_reference=ref("reference.json"),
        probation=Probation(),
        evidence=Evidence(card=ref("card.md"), evaluation=ref("evaluation.json"), bench=(ref("bench.json"),)),
        lineage=Lineage(datasets={}, recipe="test", code_version="0", packages={}),
    )
