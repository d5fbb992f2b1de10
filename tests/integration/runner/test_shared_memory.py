"""Shared memory against a real process: who is asked for, and what a hostile owner can do to it."""

import gzip
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest

from agent.protocol.runner import Accept, Accepting, SharedMemoryAccess
from tests.contract.runner import tiny_models as tiny
from tests.integration.runner.runner_under_test import RunnerUnderTest

ROWS = 20_000
X = np.random.default_rng(7).uniform(-2, 2, (ROWS, 4)).astype(np.float32)
SHM = Path("/dev/shm")
STRANGER = 4242

AS_SOMEBODY_ELSE = """
import os, socket, sys
os.setgid({uid}); os.setuid({uid})
peer = socket.socket(socket.AF_UNIX); peer.settimeout(10); peer.connect({path!r})
body = {body!r}
head = "POST /v2/systemsharedmemory/region/r/register HTTP/1.1\\r\\nHost: unix\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
peer.sendall(head.encode() + body)
sys.stdout.write(peer.recv(65536).decode())
"""


@pytest.fixture
def key() -> Iterator[str]:
    key = f"edgeward-{uuid4().hex}"
    (SHM / key).write_bytes(X.tobytes())
    (SHM / key).chmod(0o600)
    yield key
    (SHM / key).unlink(missing_ok=True)


def serve(runner: RunnerUnderTest, access: SharedMemoryAccess) -> httpx.Client:
    """A client of its Unix socket."""
    runner.load(shared_memory=access, maximum_body_bytes=1 << 20)
    runner.send(Accept())
    runner.wait_for(Accepting)
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(runner.private_path)), base_url="http://unix")


def registration(key: str) -> dict[str, object]:
    return {"key": key, "byte_size": X.nbytes}


def request() -> dict[str, object]:
    region = {"shared_memory_region": "r", "shared_memory_byte_size": X.nbytes}
    given = {"name": "x", "datatype": "FP32", "shape": X.shape, "parameters": region}
    asked = {"name": "y", "parameters": {"binary_data": True}}
    return {"inputs": [given], "outputs": [asked]}


REGISTER = "/v2/systemsharedmemory/region/r/register"


def test_it_is_off_unless_asked_for(runner: RunnerUnderTest, address: str, key: str) -> None:
    with serve(runner, "off") as unix:
        for client, base in ((unix, ""), (httpx, f"http://{address}")):
            refused = client.post(base + REGISTER, json=registration(key))
            assert (refused.status_code, "serving.shared_memory" in refused.json()["error"]) == (403, True)
            assert client.post(f"{base}/v2/systemsharedmemory/unregister").status_code == 200
            assert client.get(f"{base}/v2/systemsharedmemory/status").json() == []
            assert client.post(f"{base}/v2/models/tiny/infer", json=request()).status_code == 403
        assert "system_shared_memory" not in unix.get("/v2").json()["extensions"]


def test_for_unix_sockets_it_is_not_for_tcp(runner: RunnerUnderTest, address: str, key: str) -> None:
    with serve(runner, "unix") as unix:
        refused = httpx.post(f"http://{address}{REGISTER}", json=registration(key))
        assert (refused.status_code, "not allowed over TCP" in refused.json()["error"]) == (403, True)
        assert unix.post(REGISTER, json=registration(key)).status_code == 200
        assert unix.post("/v2/models/tiny/infer", json=request()).status_code == 200
        assert httpx.post(f"http://{address}/v2/models/tiny/infer", json=request()).status_code == 403
        assert httpx.get(f"http://{address}/v2/systemsharedmemory/status").json() == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: connects as another user")
def test_nobody_registers_what_belongs_to_another_user(runner: RunnerUnderTest, key: str) -> None:
    (SHM / key).chmod(0o666)
    runner.private_path.chmod(0o777)
    for folder in runner.private_path.parents:
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(folder.stat().st_mode | 0o011)
    with serve(runner, "unix"):
        script = AS_SOMEBODY_ELSE.format(
            uid=STRANGER, path=str(runner.private_path), body=json.dumps(registration(key)).encode()
        )
        told = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
        )
        assert told.stdout.startswith("HTTP/1.1 403 "), told
        assert f"belongs to user 0, you are user {STRANGER}" in told.stdout
        os.chown(SHM / key, STRANGER, STRANGER)
        told = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
        )
        assert told.stdout.startswith("HTTP/1.1 200 "), told


def test_an_owner_who_cuts_the_region_under_a_run_gets_errors_and_kills_nobody(
    runner: RunnerUnderTest, key: str
) -> None:
    ended = threading.Event()

    def cut() -> None:
        while not ended.is_set():
            os.truncate(SHM / key, 0)
            os.truncate(SHM / key, X.nbytes)

    with serve(runner, "unix") as unix:
        assert unix.post(REGISTER, json=registration(key)).status_code == 200
        cutter = threading.Thread(target=cut)
        cutter.start()
        statuses = set()
        try:
            for _ in range(2_000):
                statuses.add(unix.post("/v2/models/tiny/infer", json=request()).status_code)
                if statuses == {200, 400}:
                    break
        finally:
            ended.set()
            cutter.join()
        assert statuses <= {200, 400}
        assert 400 in statuses
        assert runner.process.poll() is None
        assert unix.get("/v2/health/live").status_code == 200


def test_the_region_outlives_the_runner(runner: RunnerUnderTest, key: str) -> None:
    with serve(runner, "unix") as unix:
        assert unix.post(REGISTER, json=registration(key)).status_code == 200
        assert unix.post("/v2/models/tiny/infer", json=request()).status_code == 200
    runner.close_channel()
    assert runner.process.wait(10) == 0
    assert (SHM / key).stat().st_size == X.nbytes


def test_large_tensors_come_out_right(runner: RunnerUnderTest, key: str) -> None:
    with serve(runner, "unix") as unix:
        assert unix.post(REGISTER, json=registration(key)).status_code == 200
        answer = unix.post("/v2/models/tiny/infer", json=request())
    length = int(answer.headers["inference-header-content-length"])
    y = np.frombuffer(answer.content[length:], np.float32).reshape(ROWS, 3)
    np.testing.assert_allclose(y, tiny.expected(X), rtol=1e-4, atol=1e-5)


def test_a_bomb_is_refused_and_counted(runner: RunnerUnderTest) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    with serve(runner, "off") as unix:
        refused = unix.post("/v2/models/tiny/infer", content=bomb, headers={"Content-Encoding": "gzip"})
        assert (refused.status_code, "at most 1048576 are allowed" in refused.json()["error"]) == (413, True)
        assert unix.get("/v2/health/live").status_code == 200
    assert runner.statistics_when(lambda seen: seen.refused > 0).refused == 1


def test_head_tells_the_length_and_leaves_the_body_out(serving: RunnerUnderTest, tcp: socket.socket) -> None:
    ask = b"%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(tcp.getsockname(), timeout=5) as raw:
        raw.sendall(ask % (b"GET", b"/v2"))
        head, _, body = raw.recv(65536).partition(b"\r\n\r\n")
        for method, path, status in (
            (b"HEAD", b"/v2", b"200"),
            (b"HEAD", b"/nothing", b"404"),
            (b"HEAD", b"/v2/models/tiny/infer", b"405"),
        ):
            raw.sendall(ask % (method, path))
            answer = raw.recv(65536)
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert answer.endswith(b"\r\n\r\n")
            if path == b"/v2":
                assert answer == head + b"\r\n\r\n"
        raw.sendall(ask % (b"GET", b"/v2"))
        assert raw.recv(65536) == head + b"\r\n\r\n" + body
