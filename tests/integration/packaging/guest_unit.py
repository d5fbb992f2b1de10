"""Runs inside a guest as the packaged agent service's program (see test_systemd_delegation.py): what may it do?"""

import contextlib
import json
import os
import resource
from pathlib import Path

from agent.supervisor.cgroup import Cgroup


def outgrow(group: Cgroup) -> dict[str, object]:
    """A process that takes more than its cgroup may hold."""
    own = group.child("x", 40.0)
    pid = os.fork()
    if pid == 0:
        own.add(os.getpid())
        os._exit(len(bytearray(b"x") * (100 << 20)) == 0)
    signal = os.waitpid(pid, 0)[1]
    events = own.events()
    own.remove()
    return {"signal": signal, "at_limit": events.at_limit > 0, "removed": not own.folder.exists()}


def main() -> None:
    group = Cgroup.delegated()
    result: dict[str, object] = {"delegated": group is not None, "uid_is_root": os.geteuid() == 0}
    if group is not None:
        result["outgrow"] = outgrow(group)
        result["outside"] = [
            name
            for name in ("system.slice/cgroup.procs", "cgroup.procs")
            if os.access(Path("/sys/fs/cgroup") / name, os.W_OK)
        ]
    result["nice"] = resource.getrlimit(resource.RLIMIT_NICE)
    os.setpriority(os.PRIO_PROCESS, 0, 5)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    result["raised_again"] = os.getpriority(os.PRIO_PROCESS, 0) == 0
    Path(os.environ["STATE_DIRECTORY"], "result").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
