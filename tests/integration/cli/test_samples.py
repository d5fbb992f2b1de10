"""``edgeward samples`` as a process: what is shown, deleted and copied."""

import json
import re
from pathlib import Path

import numpy as np

from tests.integration.cli.test_command import KEPT, Device, counted, device, path, run

__all__ = ["counted", "device", "path"]


async def test_what_is_kept_why_and_who_has_asked(path: Path, device: Device) -> None:
    code, out, _ = await run(path, "samples")
    assert code == 0
    assert out.startswith("inputs are kept; 2 samples, 1.2 kB of 16.8 MB; they may not leave the device")
    words = re.sub(r"\s+", " ", out)
    for said in ("low-confidence", "0.31", KEPT[0].id[:12], "request-1", "refused: nobody", "herring"):
        assert said in words
    assert "\x1b" not in out
    assert device.told == [(None, 20)]
    code, out, _ = await run(path, "samples", "show", "digits", "--limit", "5", "--json")
    assert json.loads(out)["samples"][0]["id"] == KEPT[0].id
    assert device.told[1:] == [("digits", 5)]


async def test_clear_says_what_is_gone(path: Path) -> None:
    code, out, _ = await run(path, "samples", "clear")
    assert code == 0
    assert out.startswith("3 samples were deleted by ")


async def test_an_export_is_numpy_files_and_an_index_into_a_new_folder(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "stick"
    assert (await run(path, "samples", "export", str(out)))[0] == 0
    index = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [each["id"] for each in index] == [each.id for each in KEPT]
    assert "inputs" not in index[0]
    with np.load(out / f"{KEPT[1].id}.npz") as arrays:
        assert arrays["input.x"].tolist() == [[2.0, 0.5]]
        assert arrays["output.y"].tolist() == [[7]]
    assert all(each.stat().st_mode & 0o077 == 0 for each in out.iterdir())
    code, _, problem = await run(path, "samples", "export", str(out))
    assert code == 1
    assert "is not empty" in problem
