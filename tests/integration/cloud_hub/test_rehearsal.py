"""Every command of docs/key-ceremonies.md, run as a person would; then a device that slept through all of it."""

import tempfile
from argparse import ArgumentParser, Namespace, _SubParsersAction
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.protocol.verification import FetchedMetadata
from agent.trust.marks import MarkBook
from agent.trust.repository import TrustedRepository
from cloud_hub.cli import build_parser, main
from cloud_hub.cli.rehearsal import PAGE, RehearsalError, read_steps, rehearse

ROOT = Path(__file__).parents[3]
NOT_REHEARSED = {"rehearse", "import-key"}
"""The rehearsal itself; and what needs a token or a cloud."""


def test_the_page_can_be_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "rehearsal"
    rehearse(Namespace(page=ROOT / PAGE, folder=folder, step=False), main)
    said = capsys.readouterr().out
    assert "Rehearsed: " in said
    assert said.count("Everything that is published verifies.") == 3
    metadata = folder / "hub" / "metadata"

    def fetch(name: str, _limit: int) -> FetchedMetadata:
        path = metadata / name
        return FetchedMetadata(data=path.read_bytes() if path.exists() else None)

    with tempfile.TemporaryDirectory() as scratch:
        device = TrustedRepository(
            folder=Path(scratch),
            root=(folder / "first-root.json").read_bytes(),
            stored={},
            fetch=fetch,
            now=datetime.now(UTC),
            marks=MarkBook(()),
        )
        device.refresh()
        assert device.root.version == 6
        for model in ("digits", "faces"):
            assert device.model_role(model, f"models/{model}/1/manifest.json").targets == {}


def test_every_ceremony_is_on_the_page() -> None:
    run = {
        line.removeprefix("! ").split()[2]
        for step in read_steps((ROOT / PAGE).read_text())
        for line in step.lines
        if " ceremony " in line
    }
    assert run == set(subcommands(subcommands(build_parser())["ceremony"])) - NOT_REHEARSED


def subcommands(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    (group,) = [action for action in parser._actions if isinstance(action, _SubParsersAction)]
    return dict(group.choices)


@pytest.mark.parametrize("line", ["edgeward-hub ceremony show nothing", "! true"])
def test_a_command_that_does_not_do_what_the_page_says_ends_it(tmp_path: Path, line: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n```sh\n{line}\n```\n")
    with pytest.raises(RehearsalError, match="was expected"):
        rehearse(Namespace(page=page, folder=tmp_path / "folder", step=False), main)
