"""TLS on a runner's TCP address, with unmodified clients."""

import re
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from agent.protocol.access import Access, TlsFiles
from agent.protocol.runner import Accept, Accepting, Drain, Drained, LoadFailed, Statistics
from tests.contract.runner import tiny_models as tiny
from tests.integration.runner.conftest import Spawn
from tests.integration.runner.runner_under_test import RunnerUnderTest
from tests.integration.runner.test_draining import PersistentClient
from tests.support.certificates import HOST, Authority

HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def serve(runner: RunnerUnderTest, access: Access, **changes: Any) -> None:
    runner.load(access=access, **changes)
    runner.send(Accept())
    runner.wait_for(Accepting)


def trusting(authority: Authority, client: TlsFiles | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


def connect(address: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    host, port = address.split(":")
    return context.wrap_socket(socket.create_connection((host, int(port)), timeout=10), server_hostname=host)


def get(address: str, context: ssl.SSLContext, **headers: str) -> httpx.Response:
    with httpx.Client(verify=context, trust_env=False) as client:
        return client.get(f"https://{address}/v2/models/tiny", headers=headers)


def test_httpx_is_answered_over_tls(runner: RunnerUnderTest, address: str, authority: Authority) -> None:
    serve(runner, Access(tls=authority.issue("device")))
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    with httpx.Client(verify=trusting(authority), trust_env=False) as client:
        for _ in range(3):
            answer = client.post(f"https://{address}/v2/models/tiny/infer", json=body)
            assert answer.status_code == 200
            given = answer.json()["outputs"][0]["data"]
            np.testing.assert_allclose(
                [given], tiny.expected(np.array([[1, 2, 3, 4]], np.float32)), rtol=1e-5
            )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_are_spoken(
    runner: RunnerUnderTest, address: str, authority: Authority, version: ssl.TLSVersion
) -> None:
    serve(runner, Access(tls=authority.issue("device")))
    context = trusting(authority)
    context.minimum_version = context.maximum_version = version
    assert get(address, context).json()["name"] == "tiny"


def test_tritonclient_is_answered_over_tls(
    runner: RunnerUnderTest, address: str, authority: Authority
) -> None:
    serve(runner, Access(tls=authority.issue("device")))
    client = triton.InferenceServerClient(
        address, ssl=True, ssl_options={"ca_certs": str(authority.certificate)}
    )
    x = np.linspace(0, 1, 4096, dtype=np.float32).reshape(1024, 4)
    tensor = triton.InferInput("x", x.shape, "FP32")
    tensor.set_data_from_numpy(x)
    for _ in range(3):
        np.testing.assert_allclose(client.infer("tiny", [tensor]).as_numpy("y"), tiny.expected(x), rtol=1e-4)
    client.close()


def test_a_client_that_trusts_somebody_else_is_not_fooled(
    runner: RunnerUnderTest, address: str, authority: Authority, tmp_path: Path
) -> None:
    serve(runner, Access(tls=authority.issue("device")))
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        get(address, trusting(Authority(tmp_path / "other")))


def test_only_clients_with_a_certificate_of_the_authority_are_let_in(
    runner: RunnerUnderTest, address: str, authority: Authority, tmp_path: Path
) -> None:
    clients = Authority(tmp_path / "tls", "clients")
    serve(runner, Access(tls=authority.issue("device", client_ca=clients.certificate)))
    assert get(address, trusting(authority, clients.issue("robot"))).status_code == 200
    with pytest.raises(httpx.TransportError):
        get(address, trusting(authority))
    with pytest.raises(httpx.TransportError):
        get(address, trusting(authority, authority.issue("stranger")))
    assert runner.statistics_when(lambda said: said.refused == 2).requests == 0


def test_plain_http_is_closed_without_an_answer(
    runner: RunnerUnderTest, address: str, authority: Authority
) -> None:
    serve(runner, Access(tls=authority.issue("device")))
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{address}/v2/health/live", trust_env=False)
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        plain.sendall(HEALTH)
        assert b"HTTP/" not in read_to_the_end(plain)
    assert runner.statistics_when(lambda said: said.refused == 2).requests == 0


def read_to_the_end(connection: socket.socket) -> bytes:
    heard = b""
    try:
        while data := connection.recv(65536):
            heard += data
    except (ConnectionResetError, ssl.SSLError):
        pass
    return heard


def test_a_name_of_the_device_is_answered_and_no_other(
    runner: RunnerUnderTest, address: str, authority: Authority
) -> None:
    serve(runner, Access(tls=authority.issue("device"), hosts=(HOST,)))
    context = trusting(authority)
    for host in (HOST, f"{HOST}:8600", "localhost", address):
        assert get(address, context, Host=host).status_code == 200
    refused = get(address, context, Host="attacker.example")
    assert (refused.status_code, HOST in refused.json()["error"]) == (403, True)
    assert get(address, context, Origin=f"https://{HOST}").status_code == 403


def test_the_unix_socket_stays_as_it_is(runner: RunnerUnderTest, authority: Authority) -> None:
    serve(runner, Access(tls=authority.issue("device")))
    transport = httpx.HTTPTransport(uds=str(runner.private_path))
    with httpx.Client(transport=transport) as client:
        assert client.get("http://localhost/v2/health/live").status_code == 200


def test_an_answer_before_the_end_of_the_request_reaches_its_client(
    runner: RunnerUnderTest, address: str, authority: Authority
) -> None:
    serve(runner, Access(tls=authority.issue("device")), maximum_body_bytes=1000)
    with httpx.Client(verify=trusting(authority), trust_env=False) as client:
        answer = client.post(f"https://{address}/v2/models/tiny/infer", content=bytes(4 << 20))
    assert answer.status_code == 413


def test_the_last_answer_is_followed_by_an_orderly_end(
    runner: RunnerUnderTest, address: str, authority: Authority
) -> None:
    serve(runner, Access(tls=authority.issue("device")))
    context = trusting(authority)
    with connect(address, context) as connection:
        connection.sendall(HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        begun = time.monotonic()
        heard = b""
        while data := connection.recv(65536):  # raises where the end is not TLS's own
            heard += data
        assert time.monotonic() - begun < 1.5, "the end came by the timer"
    assert heard.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in heard


def test_a_swap_over_tls_loses_nothing(spawn: Spawn, address: str, authority: Authority) -> None:
    access = Access(tls=authority.issue("device"))
    options = {"ssl": True, "ssl_options": {"ca_certs": str(authority.certificate)}}
    clients = [PersistentClient(address, **options) for _ in range(3)]
    runners = [spawn()]
    serve(runners[0], access, release=1)
    for client in clients:
        client.start()
        client.wait_until_answered_by("1")
    for release in (2, 3, 4):
        runners.append(spawn())
        serve(runners[-1], access, release=release)
        runners[-2].send(Drain(idle_seconds=10))
        assert runners[-2].wait_for(Drained).closed_idle == 0
        for client in clients:
            client.wait_until_answered_by(str(release))
    for client in clients:
        client.stop()
    assert [client.error for client in clients] == [None, None, None]
    answered = sum(sum(client.answered.values()) for client in clients)
    runners[-1].send(Drain(idle_seconds=0))
    told = [
        [said for said in runner.heard_to_the_end() if isinstance(said, Statistics)][-1] for runner in runners
    ]
    assert sum(said.requests for said in told) == answered
    assert sum(said.failures + said.refused for said in told) == 0


def test_an_idle_client_is_cut_at_the_deadline(
    runner: RunnerUnderTest, address: str, authority: Authority
) -> None:
    serve(runner, Access(tls=authority.issue("device")))
    with connect(address, trusting(authority)) as idle:
        idle.sendall(HEALTH)
        idle.recv(1000)
        runner.send(Drain(idle_seconds=0.2))
        assert runner.wait_for(Drained).closed_idle == 1
        assert runner.process.wait(10) == 0


def test_a_renewed_certificate_is_that_of_the_next_runner(
    spawn: Spawn, address: str, authority: Authority
) -> None:
    context = trusting(authority)
    serials = []
    runners = []
    for release in (1, 2):
        runners.append(spawn())
        serve(runners[-1], Access(tls=authority.issue("device")), release=release)
        if release == 2:
            runners[0].send(Drain(idle_seconds=0))
            runners[0].wait_for(Drained)
        with connect(address, context) as connection:
            serials.append(connection.getpeercert()["serialNumber"])  # type: ignore[index]
    assert serials[0] != serials[1]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"certificate": "absent.crt"}, "tls.certificate .*absent.crt: No such file"),
        ({"key": "absent.key"}, "tls.key .*absent.key: No such file"),
        ({"key": "other.key"}, "the key is not that of the certificate"),
        ({"client_ca": "device.key"}, "tls.client_ca .*no certificate"),
    ],
)
def test_files_that_cant_be_used_are_a_refusal_and_never_plain_http(
    runner: RunnerUnderTest, authority: Authority, spoil: dict[str, str], said: str
) -> None:
    good = authority.issue("device")
    authority.issue("other")
    files = {"certificate": good.certificate, "key": good.key} | {
        what: str(authority.folder / name) for what, name in spoil.items()
    }
    runner.start(access=Access(tls=TlsFiles(**files)))
    failed = runner.wait_for(LoadFailed)
    assert failed.code == "tls-unusable"
    assert re.search(said, failed.text), failed.text
    assert runner.process.wait(10) == 1
