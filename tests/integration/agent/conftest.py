"""The real console script as a process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
SCRIPT = Path(sys.executable).with_name("edgeward-agent")


@pytest.fixture
def run() -> Run:
    """``run("check-config", "--config", …)``; fails loudly where the script is not installed."""

    def start(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SCRIPT, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd="/"
        )

    return start


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A good configuration of a device that was never enrolled."""
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[device]\nid = "camera-1"\nhardware_class = "cpu"\n'
        f'state_dir = "{tmp_path}/state"\nruntime_dir = "{tmp_path}/run"\n'
    )
    return path
