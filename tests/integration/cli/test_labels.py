"""``edgeward label`` and ``edgeward accuracy``: the real command, files of any size, and what is wrong with them."""

import json
from pathlib import Path
from typing import cast

from agent.protocol.labels import Label
from tests.integration.cli.test_command import Device, counted, device, path, run

__all__ = ["counted", "device", "path"]


async def test_one_label(path: Path, device: Device) -> None:
    code, out, _ = await run(path, "label", "part-4711", "7")
    assert (code, out) == (0, "1 joined\n")
    assert device.told == [(None, (Label(request="part-4711", label="7", origin="person"),))]
    code, out, _ = await run(
        path, "label", "nobody", "7", "--origin", "system", "--model", "digits", "--json"
    )
    assert code == 1
    assert json.loads(out)["answers"][0]["outcome"] == "unknown"


async def test_a_file_goes_in_as_many_requests_as_it_needs(
    path: Path, device: Device, tmp_path: Path
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("request,label\n" + "".join(f"r-{n},3\n" for n in range(1_201)) + "nobody,3\n")
    code, out, _ = await run(path, "label", "--file", str(file))
    assert code == 1
    assert out == "1201 joined, 1 unknown\n  nobody: unknown: no request of that id is kept\n"
    sent = cast("list[tuple[str | None, tuple[Label, ...]]]", device.told)
    assert [len(labels) for _, labels in sent] == [500, 500, 202]


async def test_what_is_wrong_is_said(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("request,label\nr-1\n")
    for arguments, code, said in (
        (("label", "--file", str(file)), 1, "labels.csv, line 2: 1 values for 2 columns"),
        (("label", "--file", str(tmp_path / "none.csv")), 1, "none.csv can't be read"),
        (("label", "r-1"), 2, "give REQUEST and LABEL, or --file FILE"),
        (("label", "r-1", "3", "--file", str(file)), 2, "give REQUEST and LABEL, or --file FILE"),
        (("label", "r-1", "3\x1b[2J"), 1, "label: Expected `str` matching regex"),
        (("label", "r-1", "3", "--model", "../x"), 2, "is not a model's name"),
        (("label", "r-1", "3", "--model", "faces"), 5, "no model faces on this device"),
    ):
        found = await run(path, *arguments)
        assert found[0] == code, found
        assert said in found[2]
        assert "\x1b" not in found[2]


async def test_real_accuracy_stands_beside_the_estimate(path: Path) -> None:
    code, out, _ = await run(path, "accuracy")
    assert code == 0
    lines = out.splitlines()
    assert "187 of 200" in lines[1]
    assert "93.5% (89.2%-96.2%)" in lines[1]
    assert lines[1].rstrip().endswith("94.1%     off")
    assert "labels of a model are no truth" in out
    assert "95.0% (93.0%-97.0%)" in lines[2]
    assert "suspicious: digits 2, camera=" in out
    assert "estimate off: digits 2, camera=" in out
    assert lines[-2] == (
        "2000 predictions kept since 2023-11-15, 220 of them labelled, 7 were too many a minute"
    )
    assert lines[-1] == "labels so far: 220 joined"
    assert "\x1b" not in out
