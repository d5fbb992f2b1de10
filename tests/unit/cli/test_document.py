import subprocess
import sys
from pathlib import Path
from typing import get_args

from agent.cli.document import document
from agent.cli.parser import build_parser, command_parsers
from agent.protocol.control import Method

MANUAL = Path(__file__).parents[3] / "docs" / "cli.md"


def test_every_method_of_the_wire_is_a_documented_command() -> None:
    text = MANUAL.read_text(encoding="utf-8")
    commands = command_parsers(build_parser())
    named = {name.replace(" ", "-") for name in commands}
    assert named - {"bundle-show"} == set(get_args(Method))  # it needs no agent
    for name, command in commands.items():
        assert f"## `edgeward {name}`" in text
        assert all(action.help for action in command._actions)


def test_manual_is_current() -> None:
    assert MANUAL.read_text(encoding="utf-8") == document(), "python -m agent.cli.document > docs/cli.md"


def test_start_imports_no_rich_numpy_or_asyncio() -> None:
    code = "import sys, agent.cli.main; print([m for m in ('rich', 'numpy', 'asyncio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
