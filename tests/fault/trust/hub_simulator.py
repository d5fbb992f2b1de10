"""One maintained hub for attacks on the verifier: real metadata, real keys, a real child process."""

import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from agent.protocol.codec import FrameDecoder, decode_msgpack, frame
from agent.protocol.limits import MAX_FRAME_BYTES
from agent.protocol.state import Assignment, ModelRelease, ShadowPolicy
from agent.protocol.verification import (
    FetchedMetadata,
    FetchMetadata,
    FromVerifier,
    Mark,
    VerifyRequest,
    VerifyResult,
)
from cloud_hub.signing.ceremony import create_trust
from cloud_hub.signing.director import Director
from cloud_hub.signing.repository import Repository

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEVICE = "cam-1"


class MemoryStore:
    """Metadata in a dict; ``copy`` is what an attacker keeps to replay."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = dict(files or {})

    def get(self, name: str) -> bytes | None:
        return self.files.get(name)

    def put_all(self, files: Mapping[str, bytes]) -> None:
        self.files.update(files)

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass
class Holders:
    """Every private key, the ones of people too: a test may steal any of them."""

    offline: list[CryptoSigner]
    online: CryptoSigner
    director: CryptoSigner
    approvers: dict[str, CryptoSigner]


class HubSimulator:
    """A hub with a clock. What it serves is ``store.files``, unless ``answers`` has something else for that name."""

    def __init__(self, models: tuple[str, ...] = ("digits",), start: datetime = START) -> None:
        self.now = start
        self.keys = Holders(
            offline=[CryptoSigner.generate_ed25519() for _ in range(3)],
            online=CryptoSigner.generate_ed25519(),
            director=CryptoSigner.generate_ed25519(),
            approvers={name: CryptoSigner.generate_ed25519() for name in ("ada", "ben", "cyd")},
        )
        self.models = models
        self.remake()
        self.answers: dict[str, FetchedMetadata | bytes] = {}
        """File name → another answer; bytes go onto the socket as they are, without a frame."""
        self.asked: list[str] = []
        self.director_version = 0

    def remake(self) -> None:
        """The ceremony, with the keys as they are: a first repository."""
        files = create_trust(
            offline=self.keys.offline,
            online=self.keys.online,
            director=self.keys.director.public_key,
            approvers={name: signer.public_key for name, signer in self.keys.approvers.items()},
            approver_signers=list(self.keys.approvers.values())[:2],
            models=self.models,
            now=self.now,
        )
        self.store = MemoryStore(files)
        self.use_online_key()

    def release_files(
        self, model: str, release: int, names: tuple[str, ...] = ()
    ) -> dict[str, tuple[int, str]]:
        """Target path → (length, SHA-256) of a release, in which nothing but its digests exists."""
        return {
            f"models/{model}/{release}/{name}": (100 + release, digest(f"{model}/{release}/{name}"))
            for name in ("manifest.json", "model.onnx", *names)
        }

    def draft(self, model: str, release: int, names: tuple[str, ...] = ()) -> bytes:
        return self.repository.make_draft(model, self.release_files(model, release, names))

    def sign_draft(self, draft: bytes, *approvers: str) -> bytes:
        for name in approvers:
            signature = self.keys.approvers[name].sign(signed_bytes(draft))
            draft = self.repository.add_signature(draft, Signature(signature.keyid, signature.signature))
        return draft

    def approve(self, model: str, release: int, names: tuple[str, ...] = ()) -> None:
        self.repository.publish(model, self.sign_draft(self.draft(model, release, names), "ada", "ben"))

    def list_unchecked(self, model: str, data: bytes) -> None:
        """What a stolen hub can do: list any bytes as the model's next version, correctly signed online."""
        self.repository.publish_role(model, version_of(data), data)

    def direct(
        self,
        release: int = 1,
        *,
        model: str = "digits",
        device: str = DEVICE,
        version: int | None = None,
        signer: CryptoSigner | None = None,
        days: float = 30,
        deployment: str = "d-1",
    ) -> bytes:
        return self.direct_all(
            {model: release}, device=device, version=version, signer=signer, days=days, deployment=deployment
        )

    def direct_all(
        self,
        releases: Mapping[str, int],
        *,
        device: str = DEVICE,
        version: int | None = None,
        signer: CryptoSigner | None = None,
        days: float = 30,
        deployment: str = "d-1",
        shadow: ShadowPolicy | None = None,
    ) -> bytes:
        """A director's document that orders these releases, whether or not they exist."""
        self.director_version = version or self.director_version + 1
        orders = {}
        for model, release in releases.items():
            path = f"models/{model}/{release}/manifest.json"
            orders[path] = (
                *self.release_files(model, release)[path],
                Assignment(deployment=deployment, shadow=shadow),
            )
        document = Director(signer or self.keys.director).sign(
            device, self.director_version, orders, self.now + timedelta(days=days), issued=self.now
        )
        return document.encode()

    def rotate_online(self) -> None:
        """The offline holders' answer to a stolen online key: a new root with another one."""
        root = Metadata[Root].from_bytes(self.store.files["root.json"])
        stolen, self.keys.online = self.keys.online, CryptoSigner.generate_ed25519()
        for role in (Snapshot.type, Timestamp.type):
            root.signed.revoke_key(stolen.public_key.keyid, role)
            root.signed.add_key(self.keys.online.public_key, role)
        root.signed.version += 1
        root.signatures.clear()
        for holder in self.keys.offline:
            root.sign(holder, append=True)
        data = root.to_bytes()
        self.store.put_all({f"{root.signed.version}.root.json": data, "root.json": data})
        self.use_online_key()
        self.repository.sign_anew()

    def use_online_key(self) -> None:
        self.repository = Repository(self.store, self.keys.online, now=lambda: self.now)

    def sign_role(self, role: Targets, *approvers: str) -> bytes:
        """A model's role with any content, signed by approvers."""
        document = Metadata(role)
        for name in approvers:
            document.sign(self.keys.approvers[name], append=True)
        return document.to_bytes()

    def published_role(self, model: str = "digits") -> Targets:
        return Metadata[Targets].from_bytes(self.repository.published(model)).signed

    def answer(self, question: FetchMetadata) -> FetchedMetadata | bytes:
        self.asked.append(question.name)
        if question.name in self.answers:
            return self.answers[question.name]
        return FetchedMetadata(data=self.store.get(question.name))


@dataclass
class Device:
    """A device's stored trust, and its verifier as a real child process."""

    root: bytes
    name: str = DEVICE
    metadata: dict[str, bytes] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    hub_time: float | None = None
    installed: tuple[ModelRelease, ...] = ()

    def check(
        self, hub: HubSimulator, director: bytes | None = None, *, now: datetime | None = None
    ) -> VerifyResult:
        """Run the child, then store what it says is to be stored, as the agent does."""
        system = (now or hub.now).timestamp()
        request = VerifyRequest(
            device=self.name,
            root=self.root,
            metadata=self.metadata,
            marks=self.marks,
            now=max(system, self.hub_time or 0.0),
            system=system,
            director=director,
            installed=self.installed,
        )
        result = run_verifier(request, hub.answer)
        self.metadata = {**self.metadata, **result.metadata}
        self.marks = result.marks
        before = None if result.hub_time_replaced else self.hub_time
        self.hub_time = max(filter(None, (before, result.hub_time)), default=None)
        return result


def run_verifier(
    request: VerifyRequest, answer: Callable[[FetchMetadata], FetchedMetadata | bytes]
) -> VerifyResult:
    """Start ``python -m agent.trust``, answer its questions, return its result; bytes are sent as they are."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(30)
        command = [sys.executable, "-m", "agent.trust", "--fd", str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as child:
            theirs.close()
            try:
                result = converse(ours, request, answer)
                _, errors = child.communicate(timeout=30)
            finally:
                if child.poll() is None:
                    child.kill()
    assert child.returncode == 0, errors.decode()
    return result


def converse(
    ours: socket.socket, request: VerifyRequest, answer: Callable[[FetchMetadata], FetchedMetadata | bytes]
) -> VerifyResult:
    ours.sendall(frame(request))
    decoder = FrameDecoder()
    while data := ours.recv(65536):
        for payload in decoder.feed(data):
            message = decode_msgpack(payload, FromVerifier, limit=MAX_FRAME_BYTES)
            if isinstance(message, VerifyResult):
                return message
            reply = answer(message)
            ours.sendall(reply if isinstance(reply, bytes) else frame(reply))
    raise AssertionError("the verifier went away without a result")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def signed_bytes(document: bytes) -> bytes:
    return Metadata.from_bytes(document).signed_bytes


def version_of(document: bytes) -> int:
    return int(Metadata.from_bytes(document).signed.version)
