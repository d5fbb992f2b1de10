"""The placeholder over TLS: 503 and the reason, to a client of an https address."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from agent.protocol.access import TlsFiles
from agent.supervisor import placeholder as module
from agent.supervisor.placeholder import Placeholder
from tests.support.certificates import Authority

GET = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    return authority.issue("device")


@pytest.fixture
def listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


@pytest.fixture
async def placeholder(listener: socket.socket, files: TlsFiles) -> AsyncIterator[Placeholder]:
    placeholder = Placeholder([listener], tls=files)
    yield placeholder
    await placeholder.close()
    listener.close()


@pytest.fixture
async def client(listener: socket.socket, authority: Authority) -> AsyncIterator[httpx.AsyncClient]:
    host, port = listener.getsockname()
    context = ssl.create_default_context(cafile=str(authority.certificate))
    async with httpx.AsyncClient(
        base_url=f"https://{host}:{port}", timeout=10, trust_env=False, verify=context
    ) as client:
        yield client


async def test_a_client_of_an_https_address_gets_503_and_the_reason(
    placeholder: Placeholder, client: httpx.AsyncClient
) -> None:
    placeholder.resume("no release is active yet")
    for _ in range(2):
        answer = await client.post("/v2/models/digits/infer", content=bytes(4 << 20))
        assert (answer.status_code, answer.json()) == (503, {"error": "no release is active yet"})


async def test_plain_http_is_closed_without_an_answer(
    placeholder: Placeholder, listener: socket.socket
) -> None:
    placeholder.resume("no release is active yet")
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(GET)
    assert b"HTTP" not in await read_to_the_end(reader)
    writer.close()


async def test_a_client_that_never_finishes_its_handshake_is_closed(
    placeholder: Placeholder, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.2)
    placeholder.resume("no release is active yet")
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    async with asyncio.timeout(10):
        assert await read_to_the_end(reader) == b""
    writer.close()


async def test_while_its_files_cant_be_used_nobody_is_answered_in_plain(
    placeholder: Placeholder, listener: socket.socket, files: TlsFiles, client: httpx.AsyncClient
) -> None:
    certificate = swap_content(files.certificate, b"half a ")
    placeholder.resume("no release is active yet")
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(GET)
    assert await read_to_the_end(reader) == b""
    writer.close()
    swap_content(files.certificate, certificate)
    placeholder.pause()
    placeholder.resume("no release is active yet")
    assert (await client.get("/v2")).status_code == 503


async def test_a_renewal_that_is_half_written_leaves_the_certificate_before(
    placeholder: Placeholder, files: TlsFiles, client: httpx.AsyncClient
) -> None:
    placeholder.resume("first")
    placeholder.pause()
    swap_content(files.key, b"")
    placeholder.resume("second")
    assert (await client.get("/v2")).json() == {"error": "second"}


def swap_content(path: str, content: bytes) -> bytes:
    before = Path(path).read_bytes()
    Path(path).write_bytes(content)
    return before


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
