"""The contract of tuf-conformance, kept by our client over each of our ways; the public suite itself is run by hand (docs/trust.md)."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Snapshot, Targets, Timestamp

from tests.conformance import client
from tests.conformance.mqtt_way import MOSQUITTO
from tests.fault.trust.hub_simulator import HubSimulator

PATH = "models/digits/1/model.onnx"


class Site(HubSimulator):
    """The simulator behind a web server, with the bytes of its releases."""

    def __init__(self) -> None:
        super().__init__(start=datetime.now(UTC))
        self.requests: list[str] = []
        self.altered: dict[str, bytes] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = site.respond(self.path)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def release_files(
        self, model: str, release: int, names: tuple[str, ...] = ()
    ) -> dict[str, tuple[int, str]]:
        paths = [f"models/{model}/{release}/{name}" for name in ("manifest.json", "model.onnx", *names)]
        return {path: (len(content(path)), hashlib.sha256(content(path)).hexdigest()) for path in paths}

    def respond(self, where: str) -> bytes | None:
        _, kind, name = where.split("/", 2)
        self.requests.append(name)
        if kind == "metadata":
            return self.store.get(name)
        folder, _, file = name.rpartition("/")
        path = f"{folder}/{file.partition('.')[2]}"
        return self.altered.get(path, content(path))


class Run:
    """One client's folders."""

    def __init__(self, site: Site, folder: Path, fetcher: str) -> None:
        self.site, self.fetcher = site, fetcher
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()
        self.root = folder / "initial_root.json"
        self.root.write_bytes(site.store.files["1.root.json"])

    def arguments(self, *command: str) -> list[str]:
        return [
            *("--fetcher", self.fetcher, "--metadata-dir", str(self.metadata)),
            *("--metadata-url", f"{self.site.url}/metadata"),
            *("--target-dir", str(self.targets), "--target-base-url", f"{self.site.url}/targets/"),
            *command,
        ]

    def __call__(self, *command: str) -> int:
        self.site.requests.clear()
        return client.main(self.arguments(*command))

    def trusted(self) -> dict[str, int]:
        """File name without .json → version, as the suite reads them."""
        files = sorted(self.metadata.glob("*.json"))
        return {file.stem: Metadata.from_bytes(file.read_bytes()).signed.version for file in files}

    def downloaded(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted(self.targets.rglob("*")) if file.is_file()]


def content(path: str) -> bytes:
    return f"the bytes of {path}\n".encode() * 9_000  # more than one block


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.approve("digits", 1)
    thread = threading.Thread(target=site.server.serve_forever)
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


@pytest.fixture(params=["http", "mqtt"])
def run(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    if request.param == "mqtt" and MOSQUITTO is None:
        pytest.skip("MISSING TOOL: mosquitto (apt install mosquitto)")
    run = Run(site, tmp_path, request.param)
    assert run("init", str(run.root)) == 0
    assert site.requests == []
    assert run.trusted() == {"root": 1}
    return run


def test_refresh_download_and_a_second_download_that_asks_for_no_artifact(run: Run) -> None:
    assert run("refresh") == 0
    assert run.site.requests == ["2.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json"]
    assert run.trusted() == {"root": 1, "snapshot": 2, "targets": 1, "timestamp": 2}
    assert run("--target-name", PATH, "download") == 0
    hashed = f"models/digits/1/{hashlib.sha256(content(PATH)).hexdigest()}.model.onnx"
    assert run.site.requests == ["2.root.json", "timestamp.json", "2.digits.json", hashed]
    assert run.downloaded() == [content(PATH)]
    assert run("--target-name", PATH, "download") == 0
    assert run.site.requests == ["2.root.json", "timestamp.json"]


def test_what_is_not_what_was_signed_is_not_kept(run: Run) -> None:
    run.site.altered[PATH] = content(PATH)[::-1]
    assert run("--target-name", PATH, "download") == 1
    assert run.downloaded() == []
    assert run("--target-name", "models/digits/9/model.onnx", "download") == 1


def test_a_rollback_is_refused_and_nothing_that_was_trusted_is_lost(run: Run) -> None:
    old = dict(run.site.store.files)
    run.site.approve("digits", 2)
    assert run("refresh") == 0
    run.site.store.files = old
    assert run("refresh") == 1
    assert run.trusted() == {"root": 1, "snapshot": 3, "targets": 1, "timestamp": 3}


def test_a_role_of_any_name_is_asked_for_and_kept_under_its_quoted_name(run: Run) -> None:
    site, name = run.site, "../Team A?"
    signer = CryptoSigner.generate_ed25519()
    targets = Metadata[Targets].from_bytes(site.store.files["1.targets.json"])
    assert targets.signed.delegations is not None
    assert targets.signed.delegations.roles is not None
    targets.signed.delegations.roles[name] = DelegatedRole(name, [], 1, terminating=False, paths=["tools/*"])
    targets.signed.add_key(signer.public_key, name)
    targets.signed.version += 1
    targets.signatures.clear()
    for holder in site.keys.offline:
        targets.sign(holder, append=True)
    role = Metadata(Targets(expires=targets.signed.expires))
    role.sign(signer)
    site.repository.publish_role("targets", 2, targets.to_bytes())
    quoted = "..%2FTeam%20A%3F"
    site.store.files[f"1.{quoted}.json"] = role.to_bytes()
    list_in_snapshot(site, name)
    assert run("--target-name", "tools/none", "download") == 1
    assert site.requests[-1] == f"1.{quoted}.json"
    assert run.trusted()[quoted] == 1


def list_in_snapshot(site: Site, name: str) -> None:
    """The hub's own code lists no such role."""
    timestamp = Metadata[Timestamp].from_bytes(site.store.files["timestamp.json"])
    version = timestamp.signed.snapshot_meta.version
    snapshot = Metadata[Snapshot].from_bytes(site.store.files[f"{version}.snapshot.json"])
    snapshot.signed.meta[f"{name}.json"] = MetaFile(1)
    snapshot.signed.version += 1
    snapshot.sign(site.keys.online)
    timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
    timestamp.signed.version += 1
    timestamp.sign(site.keys.online)
    site.store.files[f"{snapshot.signed.version}.snapshot.json"] = snapshot.to_bytes()
    site.store.files["timestamp.json"] = timestamp.to_bytes()


def test_the_suite_runs_it_as_a_command_from_anywhere(site: Site, tmp_path: Path) -> None:
    run = Run(site, tmp_path, "http")
    command = [sys.executable, client.__file__]
    assert (
        subprocess.run(
            [*command, *run.arguments("init", str(run.root))], cwd=tmp_path, check=False
        ).returncode
        == 0
    )
    refreshed = subprocess.run([*command, *run.arguments("refresh")], cwd=tmp_path, check=False)
    assert refreshed.returncode == 0
    site.store.files["timestamp.json"] = b"{}"
    refused = subprocess.run(
        [*command, *run.arguments("refresh")], cwd=tmp_path, check=False, capture_output=True
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith(b"refresh: malformed: the repository:")
