"""The device's one address over TLS, whoever owns it: nobody, one model's runner, or the front."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from agent.protocol.access import Access, TlsFiles
from agent.supervisor.device_address import NO_MODEL, DeviceAddress
from agent.supervisor.errors import AddressError
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from tests.contract.runner import tiny_models as tiny
from tests.integration.front.conftest import spec_of
from tests.support.certificates import HOST, Authority

X = np.ones((1, 4), np.float32)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    return authority.issue("device")


@pytest.fixture
async def address(files: TlsFiles) -> AsyncIterator[DeviceAddress]:
    opened = await DeviceAddress.open(("127.0.0.1", 0), tls=files, hosts=(HOST,), maximum_body_bytes=1 << 20)
    yield opened
    await opened.close()


@asynccontextmanager
async def serving(
    folder: Path, name: str, address: DeviceAddress, access: Access, *, alone: bool
) -> AsyncIterator[ModelServer]:
    listeners = await ModelListeners.open(
        name,
        unix_path=folder / f"{name}.sock",
        private_folder=folder / "slots",
        tcp=address.take() if alone else None,
        access=access,
    )
    server = ModelServer(listeners)
    try:
        await server.activate(await server.prepare(spec_of(folder, name)))
        yield server
    finally:
        await server.stop()


def infer(address: DeviceAddress, authority: Authority, model: str) -> None:
    host, port = address.tcp_address
    client = triton.InferenceServerClient(
        f"{host}:{port}", ssl=True, ssl_options={"ca_certs": str(authority.certificate)}
    )
    tensor = triton.InferInput("x", X.shape, "FP32")
    tensor.set_data_from_numpy(X)
    np.testing.assert_allclose(client.infer(model, [tensor]).as_numpy("y"), tiny.expected(X), rtol=1e-5)
    client.close()


async def get(
    address: DeviceAddress, authority: Authority, path: str = "/v2/health/ready", host: str = "localhost"
) -> httpx.Response:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    name, port = address.tcp_address
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return await client.get(f"https://{name}:{port}{path}", headers={"Host": host})


async def test_whoever_owns_the_address_speaks_tls(
    address: DeviceAddress, authority: Authority, files: TlsFiles, tmp_path: Path
) -> None:
    nobody = await get(address, authority)
    assert (nobody.status_code, nobody.json()) == (503, {"error": NO_MODEL})
    access = Access(tls=files, hosts=(HOST,))
    async with serving(tmp_path, "alpha", address, access, alone=True) as alpha:
        await asyncio.to_thread(infer, address, authority, "alpha")
        async with serving(tmp_path, "beta", address, access, alone=False) as beta:
            await address.share({"alpha": alpha, "beta": beta})
            assert address.front_pid is not None
            for model in ("alpha", "beta"):
                await asyncio.to_thread(infer, address, authority, model)
            assert (await get(address, authority, host=HOST)).status_code == 200
            assert (await get(address, authority, host="attacker.example")).status_code == 403


async def test_a_certificate_that_cant_be_used_is_refused_before_anything_is_listened_on(
    files: TlsFiles, authority: Authority
) -> None:
    wrong = TlsFiles(certificate=files.certificate, key=authority.issue("other").key)
    with pytest.raises(AddressError, match="the key is not that of the certificate"):
        await DeviceAddress.open(("0.0.0.0", 0), tls=wrong, maximum_body_bytes=1)


async def test_off_loopback_is_listened_on_with_tls_only(files: TlsFiles) -> None:
    with pytest.raises(AddressError, match="without TLS only loopback is allowed"):
        await DeviceAddress.open(("0.0.0.0", 0), maximum_body_bytes=1)
    opened = await DeviceAddress.open(("0.0.0.0", 0), tls=files, maximum_body_bytes=1)
    assert opened.tcp_address[0] == "0.0.0.0"
    await opened.close()
