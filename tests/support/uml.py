"""A second Linux kernel as an ordinary process (User-mode Linux), for what the host's kernel is not set up to do.

The guest sees the host's files read-only, a fresh ``/run``, and has one processor. Needs no rights on the host.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

UML = shutil.which("linux.uml")
ROOT = Path(__file__).parents[2]

_MARK = "RESULT "
_MOUNTS = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs tmpfs /run
"""
_RUN_MODULE = """mount -t cgroup2 cgroup2 /sys/fs/cgroup
export PATH={path} TMPDIR=/run HOME=/run PYTHONDONTWRITEBYTECODE=1
cd {root} && {python} -m {module}
echo o > /proc/sysrq-trigger
sleep 60
"""


def run_in_guest(module: str, folder: Path, *, memory_mib: int, timeout_seconds: float) -> Any:
    """Boot, run ``python -m module`` as root, power off; gives what it handed to :func:`report`."""
    path = os.environ["PATH"]
    script = _RUN_MODULE.format(path=path, root=ROOT, python=sys.executable, module=module)
    return boot(script, folder, memory_mib=memory_mib, timeout_seconds=timeout_seconds)


def boot(script: str, folder: Path, *, memory_mib: int, timeout_seconds: float) -> Any:
    """Boot with ``script`` (shell) as the first process, which powers off in the end; gives what it reported.

    Raises:
        AssertionError: nothing was reported; the text is the guest's console.
    """
    assert UML is not None
    init = folder / "init"
    init.write_text(_MOUNTS + script)
    init.chmod(0o755)
    command = [UML, f"mem={memory_mib}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"]
    command += [f"init={init}", f"uml_dir={folder}", "con=null", "con0=fd:0,fd:1"]
    guest = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        console, _ = guest.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(guest.pid, signal.SIGKILL)  # its own session: nothing but this guest
        console, _ = guest.communicate()
    results = [line.removeprefix(_MARK) for line in console.splitlines() if line.startswith(_MARK)]
    assert results, console
    return json.loads(results[-1])


def report(result: Any) -> None:
    """Called in the guest: hand ``result`` (JSON) to the host."""
    sys.stdout.write(f"\n{_MARK}{json.dumps(result)}\n")
    sys.stdout.flush()
