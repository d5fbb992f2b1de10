"""``edgeward-agent`` before it runs: what it refuses, in which words and with which exit status."""

import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

EX_CONFIG = 78
Run = Callable[..., CompletedProcess[str]]


def test_a_good_configuration_is_said_to_be_good(run: Run, config: Path) -> None:
    done = run("check-config", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{config}: good, device camera-1\n"
    assert not (config.parent / "state").exists(), "a check writes nothing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[serving]\nthreads = 0\n", "serving.threads = 0: allowed: a whole number ≥ 1"),
        (
            '[serving]\ncolour = "red"\n',
            "serving.colour = 'red': there is no such setting; allowed here: address,",
        ),
        ('[log]\nlevel = "loud"\n', "log.level = 'loud': allowed: \"debug\", "),
        ("[serving\n", "not TOML"),
    ],
)
def test_a_wrong_setting_ends_it_with_78_and_the_words(run: Run, config: Path, text: str, said: str) -> None:
    config.write_text(config.read_text() + text)
    for command in ("check-config", "run"):
        done = run(command, "--config", config)
        assert (done.returncode, done.stdout) == (EX_CONFIG, "")
        assert f"edgeward-agent: {config}: " in done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    done = run("check-config", "--config", tmp_path / "absent.toml")
    assert done.returncode == EX_CONFIG
    assert f"{tmp_path}/absent.toml: can't be read" in done.stderr


def test_it_does_not_run_before_enrolment(run: Run, config: Path) -> None:
    done = run("run", "--config", config)
    assert (done.returncode, done.stdout) == (EX_CONFIG, "")
    assert done.stderr.endswith(
        f"edgeward-agent: {config.parent}/state: this device is not enrolled; "
        "run `edgeward-agent enrol` first\n"
    )
    assert "Traceback" not in done.stderr
    assert not (config.parent / "state").exists()


def test_what_it_logs_beside_a_terminal_is_json(run: Run, config: Path) -> None:
    done = run("run", "--config", config)
    line = json.loads(done.stderr.splitlines()[0])
    assert (line["level"], line["message"]) == ("ERROR", "edgeward-agent stops")


def test_logs_are_text_where_text_is_asked_for(run: Run, config: Path) -> None:
    config.write_text(config.read_text() + '[log]\nformat = "text"\n')
    done = run("run", "--config", config)
    assert "ERROR   agent.daemon: edgeward-agent stops" in done.stderr.splitlines()[0]


def test_enrolment_needs_a_token_of_the_right_form(run: Run, config: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("ew1.guessed\n")
    done = run("enrol", "--config", config, "--hub", "http://127.0.0.1:1", "--token-file", token)
    assert done.returncode != 0
    assert "token" in done.stderr
    assert "guessed" not in done.stderr, "a secret does not go into the log"


def test_enrolment_with_no_hub_there_says_so_and_can_be_run_again(
    run: Run, config: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(f"ew1.{'A' * 22}.{hashlib.sha256(b'root').hexdigest()}\n")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        hub = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for _ in range(2):
            done = run("enrol", "--config", config, "--hub", hub, "--token-file", token)
            assert done.returncode == 1
            assert "edgeward-agent: " in done.stderr
            assert hub in done.stderr
    key = next((tmp_path / "state" / "identity").glob("*key*"))
    assert key.stat().st_mode & 0o077 == 0
    assert run("run", "--config", config).returncode == EX_CONFIG, "half an enrolment is none"


def test_enrolment_over_plain_http_elsewhere_is_refused(run: Run, config: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"ew1.{'A' * 22}.{'0' * 64}\n")
    done = run("enrol", "--config", config, "--hub", "http://hub.example", "--token-file", token)
    assert done.returncode == 1
    assert "https" in done.stderr


def test_a_token_file_that_is_not_there_is_named(run: Run, config: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    done = run("enrol", "--config", config, "--hub", "http://127.0.0.1:1", "--token-file", absent)
    assert done.returncode == 1
    assert str(absent) in done.stderr


def test_help_names_every_command(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in ("run", "check-config", "enrol"):
        assert command in done.stdout
    assert run().returncode == 2
