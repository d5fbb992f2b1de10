import subprocess
import sys
from pathlib import Path

import agent.supervisor

_HEAVY = (
    "numpy",
    "tuf",
    "securesystemslib",
    "onnxruntime",
    "ai_edge_litert",
    "sqlite_utils",
    "httpx",
    "uvloop",
)


def test_no_module_of_the_supervisor_loads_a_heavy_library() -> None:
    folder = Path(agent.supervisor.__file__).parent
    modules = sorted(
        f"agent.supervisor.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"
    )
    assert "agent.supervisor.model_server" in modules
    code = "; ".join([*(f"import {module}" for module in modules), "import sys", "print(*sys.modules)"])
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(modules) <= set(loaded)
    assert set(_HEAVY).isdisjoint({name.partition(".")[0] for name in loaded})
