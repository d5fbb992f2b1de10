"""``docs/threats.md`` names every attack of this folder, and names no test that is not there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "threats.md"
HERE = "tests/fault/attacks"
NAMED = re.compile(r"`(tests/[a-z_/]+\.py)(?:::(test_[a-z0-9_]+))?`")


def attacks_in(path: Path) -> set[str]:
    """Names of the tests of one file."""
    tree = ast.parse(path.read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


def named() -> set[tuple[str, str | None]]:
    return {(file, name or None) for file, name in NAMED.findall(PAGE.read_text())}


def test_every_test_that_the_page_names_is_there() -> None:
    found = named()
    assert len(found) > 60
    missing = [
        f"{file}::{name}"
        for file, name in sorted(found, key=str)
        if not (ROOT / file).exists() or (name is not None and name not in attacks_in(ROOT / file))
    ]
    assert missing == []


def test_every_attack_of_this_folder_is_on_the_page() -> None:
    on_page = named()
    absent = [
        f"{path.name}::{name}"
        for path in sorted((ROOT / HERE).glob("test_*.py"))
        if path.name != Path(__file__).name
        for name in sorted(attacks_in(path))
        if (f"{HERE}/{path.name}", name) not in on_page
    ]
    assert absent == [], "give each a line in docs/threats.md: the attack, what the device does, the test"
