"""``edgeward bundle`` and the open file that travels beside its request."""

import array
import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.cli.client import ask
from agent.cli.errors import BundleRefusedError
from agent.protocol.bundle import BundleOrder
from agent.protocol.control import BundleReport, ControlRequest
from agent.protocol.envelope import RECEIPT_TYPE, seal
from agent.protocol.state import DeploymentReport, Phase, Reason
from agent.service.control_server import ControlError, ControlServer
from tests.contract.protocol.samples import RECEIPT
from tests.integration.cli.test_command import Device, run
from tests.support.bundles import bundle_of, index_of

FILES = {("metadata", "1.root.json"): b"root", ("artifact", "models/digits/1/model.onnx"): b"model" * 50}
ORDER = BundleOrder(model="digits", release=2, deployment="d2")
DEPLOYMENT = DeploymentReport(deployment="d2", model="digits", release=2, phase=Phase.COMMITTED, since=1.0)
TAKEN = BundleReport(
    bundle="ab" * 32,
    offered=1.7e9,
    stage="taken",
    done_bytes=2_000_000,
    total_bytes=2_000_000,
    orders=(ORDER,),
    deployments=(DEPLOYMENT,),
)


@pytest.fixture
def device() -> Device:
    made = Device()
    made.report = TAKEN
    return made


@pytest.fixture
async def path(tmp_path: Path, device: Device) -> AsyncIterator[Path]:
    server = ControlServer(tmp_path / "control.sock", device, lambda _: None)
    await server.start()
    yield tmp_path / "control.sock"
    await server.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    file = tmp_path / "b.edgeward"
    file.write_bytes(bundle_of(index_of(FILES), FILES))
    file.chmod(0o400)
    return file


def content(path: Path) -> bytes:
    return path.read_bytes()


def damage(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob("*.part"))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - also of an async test


async def test_the_file_itself_reaches_the_agent_not_its_name(
    path: Path, device: Device, bundle: Path
) -> None:
    code, out, err = await run(path, "bundle", "install", str(bundle))
    assert (code, err) == (0, "")
    assert device.told == [content(bundle)]
    assert out.splitlines() == ["copied 1.9 MiB: the stick may be removed", "digits 2: committed"]


async def test_what_goes_wrong_has_words_a_next_step_and_its_code(
    path: Path, device: Device, bundle: Path, tmp_path: Path
) -> None:
    device.report = replace(
        TAKEN, stage="refused", deployments=(), refusal=Reason(code="expired", text="the bundle expired")
    )
    code, _, err = await run(path, "bundle", "install", str(bundle))
    assert (code, "the bundle is refused: the bundle expired (expired)" in err) == (7, True)
    assert "export a new one" in err
    why = Reason(code="golden-mismatch", text="an output differs")
    failed = replace(DEPLOYMENT, phase=Phase.REFUSED, reason=why)
    device.report = replace(TAKEN, deployments=(failed,))
    code, out, err = await run(path, "bundle", "install", str(bundle))
    assert (code, "digits 2: refused, an output differs" in out) == (7, True)
    assert "not committed; what was there before serves on" in err
    os.mkfifo(tmp_path / "pipe")
    code, _, err = await run(path, "bundle", "install", str(tmp_path / "pipe"))
    assert (code, "not a file" in err) == (1, True)


async def test_without_waiting_it_ends_where_only_time_or_a_person_helps(path: Path, device: Device) -> None:
    waits = Reason(code="held-on-device", text="a technician holds this device")
    fetching = replace(DEPLOYMENT, phase=Phase.FETCHING, waiting_for=waits)
    device.report = replace(TAKEN, deployments=(fetching,))
    code, out, _ = await run(path, "bundle", "status")
    assert (code, "digits 2: fetching, waits: a technician holds" in out) == (0, True)
    waiting = asyncio.create_task(run(path, "bundle", "receipt", "--wait", "-o", "/nonexistent/x"))
    await asyncio.sleep(1)
    assert not waiting.done()
    device.report = TAKEN
    code, _, err = await waiting
    assert (code, "/nonexistent" in err) == (1, True)


async def test_a_receipt_is_written_whole_under_the_devices_name(
    path: Path, device: Device, tmp_path: Path
) -> None:
    from agent.protocol.codec import encode_json

    device.envelope = seal(
        RECEIPT_TYPE, encode_json(RECEIPT), "ab" * 32, b"signature", limit=100_000
    ).decode()
    code, out, _ = await run(path, "bundle", "receipt", "-o", str(tmp_path))
    file = tmp_path / "camera-1-2023-11-14.receipt"
    assert (code, out) == (0, f"wrote {file}\n")
    assert file.read_text() == device.envelope
    assert leftovers(tmp_path) == []


async def test_a_device_without_a_bundle_says_what_to_do(path: Path, device: Device) -> None:
    device.report = None
    for action in ("status", "receipt"):
        code, _, err = await run(path, "bundle", action)
        assert (code, "edgeward bundle install FILE" in err) == (1, True)


async def test_show_needs_no_agent(tmp_path: Path, bundle: Path) -> None:
    nobody = tmp_path / "nobody.sock"
    code, out, _ = await run(nobody, "bundle", "show", str(bundle))
    assert (code, "camera-1 (cpu): digits 1" in out, "every byte is there" in out) == (0, True, True)
    code, out, _ = await run(nobody, "bundle", "show", str(bundle), "--json")
    assert json.loads(out)["devices"][0]["device"] == "camera-1"
    damage(bundle)
    code, _, err = await run(nobody, "bundle", "show", str(bundle))
    assert (code, "damaged: models/digits/1/model.onnx" in err) == (7, True)


async def test_a_request_without_a_file_is_told_what_is_missing(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b'{"method": "bundle-install"}\n')
    answer = json.loads(await reader.readline())
    assert answer["error"] == {
        "code": "malformed",
        "text": "ControlRequest: bundle-install needs an open file passed along",
    }
    writer.close()
    await writer.wait_closed()


async def test_files_that_nobody_asked_for_are_closed(path: Path, bundle: Path) -> None:
    def pass_several() -> None:
        with socket.socket(socket.AF_UNIX) as client, bundle.open("rb") as file:
            client.connect(str(path))
            rights = array.array("i", [file.fileno()] * 3)
            for line in (b'{"method": "status"}\n', b"nonsense\n", b'{"method": "pl'):
                client.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            client.recv(10)

    before = open_files()
    await asyncio.to_thread(pass_several)
    async with asyncio.timeout(10):
        while open_files() > before:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_a_refusal_of_the_agent_names_the_file(
    path: Path, device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(descriptor: int) -> None:
        os.close(descriptor)
        raise ControlError("not-a-bundle", "it ends after 1 of 2 bytes")

    monkeypatch.setattr(device, "bundle_install", refuse)
    code, _, err = await run(path, "bundle", "install", str(bundle))
    assert (code, f"{bundle}: it ends after 1 of 2 bytes" in err) == (7, True)
    with bundle.open("rb") as file, pytest.raises(BundleRefusedError):
        await asyncio.to_thread(ask, str(path), ControlRequest(method="bundle-install"), file.fileno())
