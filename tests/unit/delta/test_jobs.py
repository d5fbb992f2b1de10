"""Making patches in a process of its own: what can be made is made, the rest is named."""

import subprocess
import sys
from pathlib import Path

import msgspec

from agent.delta.jobs import Job
from agent.protocol.patches import PatchMethod
from tests.unit.delta.patches import applied, nudged, weights

BASE = weights(20_000)
TARGET = nudged(BASE, 0.05)


def run(jobs: list[Job]) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "agent.delta.jobs"]
    return subprocess.run(command, input=msgspec.json.encode(jobs), capture_output=True, check=False)


def test_every_job_that_can_be_done_is_done_and_the_others_are_named(tmp_path: Path) -> None:
    base, target = tmp_path / "base", tmp_path / "target"
    base.write_bytes(BASE)
    target.write_bytes(TARGET)

    def job(method: PatchMethod, source: Path | None) -> Job:
        out = tmp_path / f"{method}-{None if source is None else source.name}"
        return Job(
            method=method, target=str(target), base=None if source is None else str(source), out=str(out)
        )

    missing = tmp_path / "missing"
    good = [job(PatchMethod.SUB8, base), job(PatchMethod.SUB32, base), job(PatchMethod.ZSTD, None)]
    done = run([job(PatchMethod.SUB8, missing), *good])
    assert done.returncode == 1
    assert str(missing) in done.stderr.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["base", "target", *(Path(each.out).name for each in good)]
    ), "nothing half made is left"
    for each in good:
        assert applied(Path(each.out).read_bytes(), BASE, each.method, len(TARGET)) == TARGET
    assert run(good[:1]).returncode == 0


def test_compressing_alone_loads_no_numpy(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(TARGET)
    job = Job(method=PatchMethod.ZSTD, target=str(target), base=None, out=str(tmp_path / "out"))
    code = f"""
import sys
from agent.delta.jobs import Job, run
from agent.protocol.patches import PatchMethod
run(Job(method=PatchMethod.ZSTD, target={job.target!r}, base=None, out={job.out!r}))
sys.exit("numpy" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert Path(job.out).exists()
