"""The verifier as a process: what it imports, what it gives up, and how it ends."""

import json
import pickle
import socket
import subprocess
import sys
from pathlib import Path

from agent.protocol.codec import frame
from agent.protocol.verification import VerifyRequest
from agent.trust import sandbox
from tests.fault.trust.hub_simulator import HubSimulator, run_verifier

FORBIDDEN = {"paho", "sqlite3", "sqlite_utils", "numpy", "onnxruntime", "httpx", "urllib3", "asyncio"}

IN_THE_SANDBOX = """
import json, os, resource, socket, sys
from agent.trust import sandbox
kept, other = os.dup(0), os.dup(0)
sandbox.enter(keep=kept)
def open_still(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
def interfaces():
    with open("/proc/self/net/dev") as file:
        return [line.split(":")[0].strip() for line in file if ":" in line]
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "kept": open_still(kept), "other": open_still(other),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("CPU", "AS", "NOFILE", "FSIZE", "CORE")},
    "interfaces": interfaces(),
}))
try:
    bytearray(1 << 30)
    print("allocated")
except MemoryError:
    print("refused")
"""


def python(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()


def test_it_never_imports_mqtt_http_a_database_or_a_runtime() -> None:
    (line,) = python(
        "from agent.trust.__main__ import load; load(); import json, sys; print(json.dumps(sorted(sys.modules)))"
    )
    loaded = {name.partition(".")[0] for name in json.loads(line)}
    assert "tuf" in loaded
    assert loaded & FORBIDDEN == set()


IN_A_CHECK = """
import json, pickle, sys
from agent.trust.__main__ import load
load()
from agent.protocol.verification import FetchedMetadata
from agent.trust.verify import verify
with open({file!r}, "rb") as file:
    request, files = pickle.load(file)
before = set(sys.modules)
result = verify(request, lambda name, _: FetchedMetadata(data=files.get(name)))
assert result.refusal is None and len(result.assignments) == 1, result
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_it_loads_nothing_more_once_it_has_closed_its_doors(tmp_path: Path) -> None:
    hub = HubSimulator()
    hub.approve("digits", 1)
    request = VerifyRequest(
        device="cam-1",
        root=hub.store.files["1.root.json"],
        metadata={},
        marks=(),
        now=hub.now.timestamp(),
        director=hub.direct(1),
    )
    file = tmp_path / "request"
    file.write_bytes(pickle.dumps((request, hub.store.files)))
    (line,) = python(IN_A_CHECK.format(file=str(file)))
    assert json.loads(line) == []


def test_it_gives_up_what_it_does_not_need() -> None:
    report, allocation = python(IN_THE_SANDBOX)
    found = json.loads(report)
    assert found["kept"]
    assert not found["other"]
    assert found["no_new_privileges"] == "1"
    assert found["limits"]["CPU"] == [sandbox.CPU_SECONDS, sandbox.CPU_SECONDS]
    assert found["limits"]["NOFILE"] == [sandbox.OPEN_FILES, sandbox.OPEN_FILES]
    assert found["limits"]["CORE"] == [0, 0]
    assert allocation == "refused"


def test_it_has_no_network_where_the_kernel_permits_namespaces() -> None:
    permitted = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
    report, _ = python(IN_THE_SANDBOX)
    assert json.loads(report)["interfaces"] == ["lo"] or not permitted


def start(first: bytes) -> tuple[int, str]:
    """Start the child, send ``first``, hang up."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "agent.trust", "--fd", str(theirs.fileno())]
        with subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True
        ) as child:
            theirs.close()
            ours.sendall(first)
            ours.shutdown(socket.SHUT_WR)
            _, errors = child.communicate(timeout=30)
    return child.returncode, errors


def test_a_supervisor_that_goes_away_ends_it() -> None:
    code, errors = start(b"")
    assert code == 1
    assert "closed the socket" in errors


def test_a_request_that_is_none_ends_it() -> None:
    code, errors = start(b"\x00\x00\x00\x01\x00")
    assert code == 1
    assert "Traceback" not in errors


def test_a_supervisor_that_goes_away_in_the_middle_ends_it() -> None:
    hub = HubSimulator()
    request = VerifyRequest(
        device="cam-1", root=hub.store.files["1.root.json"], metadata={}, marks=(), now=0.0, director=None
    )
    code, errors = start(frame(request))
    assert code == 1
    assert "Traceback" not in errors


def test_a_root_that_can_not_be_used_is_a_refusal() -> None:
    request = VerifyRequest(device="cam-1", root=b"{}", metadata={}, marks=(), now=0.0, director=None)
    result = run_verifier(request, lambda question: b"")
    assert result.refusal is not None
    assert result.refusal.code == "malformed"


def test_a_time_that_is_none_is_the_verifiers_error_not_the_hubs() -> None:
    hub = HubSimulator()
    root = hub.store.files["1.root.json"]
    request = VerifyRequest(device="cam-1", root=root, metadata={}, marks=(), now=float("inf"), director=None)
    result = run_verifier(request, hub.answer)
    assert result.refusal is not None
    assert result.refusal.code == "verifier-error"
