"""The servers to compare with: each in an environment of its own, made by pip from pinned versions."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from hw_bench.errors import AbsentError, MeasurementError

DEFAULT_FOLDER = Path(".cache/peers")
"""Ignored by git; about 700 MB."""


class Peer(Struct, frozen=True, kw_only=True):
    """One environment."""

    name: str
    packages: tuple[str, ...]
    """Pinned; with what they need."""
    alone: tuple[str, ...] = ()
    """Pinned; without what they need."""
    made_by: str = "peers"
    """The command of this program that makes it."""


_RUNTIME = f"onnxruntime=={version('onnxruntime')}"
"""The same as the runner's."""

TRITON = Peer(
    name="triton",
    packages=("numpy==1.26.4", _RUNTIME),
    # Only the server's binaries are used, not the Python library around them.
    alone=("nvidia-pytriton==0.7.0",),
)
MLSERVER = Peer(name="mlserver", packages=("mlserver==1.7.1", _RUNTIME))
PEERS = (TRITON, MLSERVER)


def install(folder: Path, tell: Callable[[str], None], peers: Sequence[Peer] = PEERS) -> None:
    """Make every environment that is not there.

    Raises:
        MeasurementError: pip failed; the text carries its last words.
    """
    for peer in peers:
        if _stamp(folder, peer).exists():
            tell(f"{peer.name}: there")
            continue
        tell(f"{peer.name}: {', '.join(peer.alone + peer.packages)} …")
        environment = folder / peer.name
        _run(peer, [sys.executable, "-m", "venv", "--clear", environment])
        pip: list[str | Path] = [
            environment / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        if peer.alone:
            _run(peer, [*pip, "--no-deps", *peer.alone])
        _run(peer, [*pip, *peer.packages])
        _stamp(folder, peer).write_text("\n".join(peer.alone + peer.packages) + "\n", encoding="utf-8")


def environment(folder: Path, peer: Peer) -> Path:
    """The environment's folder.

    Raises:
        AbsentError: it was never made, or from other versions.
    """
    if not _stamp(folder, peer).exists():
        raise AbsentError(
            f"{peer.name} is not installed in {folder}; install it: python -m hw_bench {peer.made_by} --peers {folder}"
        )
    return (folder / peer.name).resolve()


def site_packages(environment: Path) -> Path:
    """Where an environment's libraries are."""
    (found,) = (environment / "lib").glob("python3*/site-packages")
    return found


def _stamp(folder: Path, peer: Peer) -> Path:
    """Its name changes with the versions, so that an old environment is made anew."""
    versions = "+".join(sorted(peer.alone + peer.packages)).replace("==", "-")
    return folder / peer.name / f"{versions}.installed"


def _run(peer: Peer, command: list[str | Path]) -> None:
    answer = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise MeasurementError(f"{peer.name} can't be installed: {answer.stderr.strip()[-800:]}")
