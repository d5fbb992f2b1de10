"""What machine this is."""

import platform
from pathlib import Path

import psutil


def machine() -> str:
    """CPU model, cores and kernel of this machine, in words."""
    cores = psutil.cpu_count(logical=True) or 1
    model = _cpu_model(Path("/proc/cpuinfo")) or platform.machine()
    return f"{model}, {cores} logical CPUs, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _cpu_model(path: Path) -> str | None:
    """``model name`` (x86) or ``Model`` (Raspberry Pi) of the first CPU; None where there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    fields = dict(
        reversed([(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines)])
    )
    return fields.get("model name") or fields.get("Model")
