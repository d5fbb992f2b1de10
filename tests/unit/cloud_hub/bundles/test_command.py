"""``edgeward-hub bundle``: what it says when it can't."""

import os
from pathlib import Path

import pytest

from cloud_hub.cli import main
from tests.support.ports import free_port
from tests.unit.cloud_hub.bundles.conftest import Site


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["bundle", *arguments]) == 1
    return capsys.readouterr().err


@pytest.fixture
def olga(tmp_path: Path) -> tuple[str, ...]:
    token = tmp_path / "olga.token"
    token.write_text("ewh_token")
    return ("--hub", f"http://127.0.0.1:{free_port()}", "--token-file", str(token))


def test_a_hub_that_does_not_answer_leaves_nothing_behind(
    olga: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    assert "the hub broke off" in said(capsys, "export", "--device", "cam-1", "-o", str(folder), *olga)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("release", ["digits", "digits@", "digits@x", "@7", "digits@0", "Digits@1"])
def test_a_release_is_a_model_and_a_number(
    olga: tuple[str, ...], capsys: pytest.CaptureFixture[str], release: str
) -> None:
    text = said(capsys, "export", "--device", "cam-1", "--release", release, *olga)
    assert f"{release!r} is not MODEL@RELEASE, as in digits@7" in text


def test_a_folder_that_is_not_there_is_named(
    olga: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "export", "--device", "cam-1", "-o", str(tmp_path / "no" / "x"), *olga)
    assert str(tmp_path / "no") in text
    assert "No such file" in text


def test_files_that_cannot_be_read_are_named(
    olga: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "missing")
    assert f"{missing}: No such file" in said(capsys, "verify", missing)
    assert f"{missing}: No such file" in said(capsys, "import-receipt", missing, *olga)
    assert f"{tmp_path}: Is a directory" in said(capsys, "verify", str(tmp_path))


def test_verify_says_who_it_is_for_and_from_which_root_it_was_checked(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout = site.rollout()
    file, root = tmp_path / "b.edgeward", tmp_path / "root.json"
    file.write_bytes(site.export(rollout=rollout))
    root.write_bytes(site.hub.root())
    assert main(["bundle", "verify", str(file)]) == 0
    out = capsys.readouterr().out
    assert "cam-1 (x86-64): digits 1" in out
    assert "compare it, or give --root FILE" in out
    assert main(["bundle", "verify", str(file), "--root", str(root)]) == 0
    assert "compare it" not in capsys.readouterr().out
    os.truncate(file, 5000)
    assert "copy the whole bundle again" in said(capsys, "verify", str(file), "--root", str(root))
