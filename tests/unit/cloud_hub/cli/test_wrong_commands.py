"""Commands of ceremonies and approvers that make no sense: one line that says what is wrong, and nothing is done."""

from pathlib import Path

import pytest

from cloud_hub.cli import main

KEYLESS = ("--token-file", "token", "--trust", "trust", "--key", "file2:ada.pem")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ceremony", "show", "nothing"), "nothing: No such file or directory"),
        (("ceremony", "show", "garbage"), "this is no ceremony file"),
        (("ceremony", "show", "future"), "this is no ceremony file"),
        (("ceremony", "create", "--model", "digits"), "give --keys-dir and --approver"),
        (
            ("ceremony", "create", "--model", "digits", "--root-key", "garbage"),
            "public key garbage: not a public key",
        ),
        (("ceremony", "root-keys"), "nothing to change: give --add, --remove or --threshold"),
        (
            ("ceremony", "root-keys", "--threshold", "2"),
            "there is no repository yet: edgeward-hub ceremony create",
        ),
        (("ceremony", "renew"), "there is no repository yet"),
        (("ceremony", "check", "--root", "nothing"), "nothing: No such file or directory"),
        (("ceremony", "check", "--root", "garbage"), "does not verify"),
        (("ceremony", "key", "Ada!", "--out", "keys"), "key name 'Ada!'"),
        (("ceremony", "rehearse", "--page", "nothing"), "nothing: No such file"),
        (("ceremony", "import-key", "hsm", "--name", "ada", "--out", "ada.pub.json"), "hsm: "),
        (("approve", "digits", *KEYLESS), "name the RELEASE"),
        (("approve", "digits", "1", "--renew", *KEYLESS), "name the RELEASE"),
        (("approve", "digits", "--renew", "--withdraw", *KEYLESS), "name the RELEASE"),
    ],
)
def test_what_is_wrong_is_said(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(home)
    (home / "garbage").write_bytes(b"\xff{")
    (home / "future").write_text('{"format": "edgeward-ceremony-2", "new": {}}')
    before = sorted(home.rglob("*"))
    assert main(list(words)) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(home.rglob("*")) == before
