"""What the resident supervisor must not carry, looked up in a fresh interpreter."""

import json
import subprocess
import sys

FORBIDDEN = (
    "numpy",
    "pandas",
    "onnxruntime",
    "ai_edge_litert",
    "tflite_runtime",
    "tuf",
    "securesystemslib",
    "sqlite_utils",
    "httpx",
    "cryptography",
    "agent.trust",
    "agent.runner",
    "agent.drift",
    "agent.transport.http",
    "agent.store.schema",
    "cloud_hub",
)


def modules_after(code: str) -> set[str]:
    """Names in ``sys.modules`` of a fresh interpreter that ran ``code``."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_service_carries_no_numpy_no_runtime_no_tuf_and_no_http_client() -> None:
    loaded = modules_after("import agent.daemon")
    assert "agent.service.device" in loaded, "it is the whole service that was imported"
    assert loaded & set(FORBIDDEN) == set()


def test_looking_for_runtimes_imports_none() -> None:
    loaded = modules_after("import agent.daemon\nassert agent.daemon._runtimes() is not None")
    assert loaded & set(FORBIDDEN) == set()


def test_the_look_would_see_them() -> None:
    assert {"numpy", "agent.drift"} <= modules_after("import agent.drift.statistics")
