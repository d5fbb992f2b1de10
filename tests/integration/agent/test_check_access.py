"""``edgeward-agent check-config`` looks at what the settings of local access name."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.certificates import Authority

EX_CONFIG = 78
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def with_tls(config: Path, certificate: object, key: object) -> Path:
    tls = (
        f'[serving]\naddress = "0.0.0.0:8600"\n[serving.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    )
    config.write_text(config.read_text() + tls)
    return config


def test_a_certificate_and_its_key_are_good(run: Run, config: Path, authority: Authority) -> None:
    files = authority.issue("device")
    done = run("check-config", "--config", with_tls(config, files.certificate, files.key))
    assert (done.returncode, done.stderr) == (0, "")
    good, note = done.stdout.splitlines()
    assert good == f"{config}: good, device camera-1"
    assert note.startswith("note: whoever reaches serving.address = '0.0.0.0:8600' may ask every model")


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("absent.crt", "device.key", "absent.crt: No such file"),
        ("device.crt", "other.key", "the key is not that of the certificate"),
        ("device.key", "device.key", "not a certificate and its key in PEM"),
    ],
)
def test_files_that_cant_be_used_are_told(
    run: Run, config: Path, authority: Authority, certificate: str, key: str, said: str
) -> None:
    for name in ("device", "other"):
        authority.issue(name)
    done = run(
        "check-config", "--config", with_tls(config, authority.folder / certificate, authority.folder / key)
    )
    assert (done.returncode, done.stdout) == (EX_CONFIG, "")
    assert f"edgeward-agent: {config}: serving.tls.certificate {authority.folder}" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_group_that_is_not_there_is_told(run: Run, config: Path) -> None:
    config.write_text(config.read_text() + '[serving]\nsocket_group = "no-such-group"\n')
    done = run("check-config", "--config", config)
    assert (done.returncode, done.stdout) == (EX_CONFIG, "")
    assert f"{config}: serving.socket_group = 'no-such-group': there is no such group" in done.stderr
    assert "groupadd no-such-group" in done.stderr
