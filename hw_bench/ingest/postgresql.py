"""A PostgreSQL of one's own: a new cluster in a temporary folder, reached by its socket alone, gone when it is closed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from hw_bench.errors import AbsentError, ServerError

_INSTALLED = Path("/usr/lib/postgresql")
_ACCOUNT = "postgres"
"""PostgreSQL does not run as root; its package makes this account."""


class PostgreSQL:
    """With the settings of its package: ``fsync`` and ``synchronous_commit`` are on.

    Args:
        durable: False for what may forget, as tests may, and is to be quick.

    Raises:
        AbsentError: it is not installed.
        ServerError: it does not start.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self._tools, self._durable = _newest(), durable
        # The path of a Unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="edgeward-pg-", dir="/tmp"))
        if os.geteuid() == 0:
            account = pwd.getpwnam(_ACCOUNT)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        data = self.folder / "data"
        locale = ("--encoding=UTF8", "--locale=C.UTF-8")
        self._run(
            "initdb",
            "-D",
            data,
            "-U",
            _ACCOUNT,
            "--auth=trust",
            *locale,
            "--no-instructions",
            *(() if durable else ("--no-sync",)),
        )
        self._start()

    def create(self, name: str, *options: str) -> str:
        """Make a database, with options of ``createdb``; its URL for ``hub.toml``."""
        self._run("createdb", "-h", self.folder, "-U", _ACCOUNT, *options, name)
        return f"postgresql+psycopg://{_ACCOUNT}@/{name}?host={self.folder}"

    def restart(self) -> None:
        """Stop at once, as a failing machine does, and come back."""
        self._run("pg_ctl", "-D", self.folder / "data", "-w", "-m", "immediate", "stop")
        self._start()

    def _start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}'"
        options += "" if self._durable else " -c fsync=off -c full_page_writes=off"
        self._run(
            "pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log", "-o", options, "start"
        )

    def pid(self) -> int:
        """Of the process that all others are children of."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])

    def close(self) -> None:
        """Stop it and take everything away."""
        self._run("pg_ctl", "-D", self.folder / "data", "-w", "-m", "immediate", "stop")
        shutil.rmtree(self.folder)

    def _run(self, tool: str, *arguments: str | Path) -> None:
        command = [str(self._tools / tool), *map(str, arguments)]
        if os.geteuid() == 0:
            account = (f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--clear-groups")
            command = ["setpriv", *account, *command]
        # Not a pipe: the server would keep it open for as long as it runs.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(command, stdout=said, stderr=said, cwd=self.folder, check=False)
            if done.returncode != 0:
                said.seek(0)
                raise ServerError(f"{tool}: {said.read().decode(errors='replace').strip()}")


def _newest() -> Path:
    """Folder of the tools of the newest version that is here."""
    found = sorted(_INSTALLED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise AbsentError(
            f"PostgreSQL is not installed (no {_INSTALLED}/*/bin/initdb); Debian's package: postgresql"
        )
    return found[-1].parent
