"""The unit files, read by systemd itself."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "packaging" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze (Debian package systemd) is not installed",
)


def verify(unit: Path, folder: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Verify a copy whose program exists: /usr/bin/edgeward-… is not installed where the tests run."""
    program = folder / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    lines = (text or unit.read_text()).splitlines()
    rewritten = [
        f"ExecStart={program} {line.partition(' ')[2]}" if line.startswith("ExecStart=") else line
        for line in lines
    ]
    copy = folder / unit.name
    copy.write_text("\n".join(rewritten) + "\n")
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_there_is_a_unit_for_each_service() -> None:
    assert [unit.name for unit in UNITS] == [
        "edgeward-agent.service",
        "edgeward-hub-ingest@.service",
        "edgeward-hub.service",
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_starts_a_program_that_the_package_installs(unit: Path) -> None:
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]
    start = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    program = Path(start.removeprefix("ExecStart=").split(" ")[0])
    assert program.parent == Path("/usr/bin")
    assert program.name in project["scripts"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_it_without_a_word(unit: Path, tmp_path: Path) -> None:
    result = verify(unit, tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_would_have_noticed_a_wrong_setting(unit: Path, tmp_path: Path) -> None:
    result = verify(unit, tmp_path, unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=stirct"))
    assert "Failed to parse protect system value" in result.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_is_exposed_little(unit: Path, tmp_path: Path) -> None:
    verify(unit, tmp_path)
    result = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=yes",
            "--threshold=25",
            "--no-pager",
            tmp_path / unit.name,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_users_of_the_units_are_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", FOLDER / "edgeward.sysusers.conf"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    made = {line.split(":")[0] for line in (tmp_path / "etc" / "passwd").read_text().splitlines()}
    wanted = {
        line.removeprefix("User=")
        for unit in UNITS
        for line in unit.read_text().splitlines()
        if line.startswith("User=")
    }
    assert made == wanted == {"edgeward", "edgeward-hub"}
