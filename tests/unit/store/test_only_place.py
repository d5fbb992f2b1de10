"""`agent/store/durable_file.py` is the only place that writes files by name: everybody else goes through it."""

import ast
from pathlib import Path

AGENT = Path(__file__).parents[3] / "agent"

WRITERS = {
    "replace",
    "rename",
    "renames",
    "link",
    "symlink",
    "write_bytes",
    "write_text",
    "copy",
    "copyfile",
    "move",
}
"""Of paths, `os` and `shutil`."""

JUSTIFIED = {
    "store/durable_file.py": "it is the place",
    "store/quarantine.py": "sets a damaged database aside: a rename of what is there, its folder synced",
    "store/partial.py": "appends to a partial artifact, whose final hash decides; it is synced before it gets its name",
    "cli/bundles.py": "the technician's tool: the receipt goes to a stick, whose file system may know no modes; synced as well",
    "delta/jobs.py": "makes patches on the hub; a device never runs it",
    "trust/repository.py": "fills the temporary folder that python-tuf works in; what counts is in trust.db",
}


def opens_for_writing(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name != "open":
        return False
    arguments = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [
        each.value for each in arguments if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]
    return any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)


def moves_a_file(call: ast.Call) -> bool:
    """`path.replace(other)` and its like; `text.replace(a, b)` has two arguments, and `structs.replace` takes keywords."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in WRITERS:
        return False
    owner = call.func.value
    if isinstance(owner, ast.Name) and owner.id in {"os", "shutil"}:
        return True
    if call.func.attr in {"write_bytes", "write_text"}:
        return True
    return call.func.attr in {"replace", "rename"} and len(call.args) == 1 and not call.keywords


def test_nobody_else_writes_files() -> None:
    found = {
        path.relative_to(AGENT).as_posix()
        for path in AGENT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and (opens_for_writing(node) or moves_a_file(node))
    }
    assert found - set(JUSTIFIED) == set(), "write by agent.store.durable_file, or say here why not"
    assert set(JUSTIFIED) - found == set(), "no longer needed here"
