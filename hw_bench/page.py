"""Pages that carry measured tables between two markers, and what a bench says while it runs."""

from pathlib import Path

from rich.console import Console

from hw_bench.errors import SubjectError


def with_tables(path: Path, tables: str, begin: str, end: str) -> str:
    """What is to be written to ``path``: ``tables`` alone where it is not there, else its text with them between its markers.

    Raises:
        SubjectError: it is there, and has no such lines.
    """
    if not path.exists():
        return tables
    before, first, rest = path.read_text(encoding="utf-8").partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise SubjectError(f"{path} is there, and is not written over: no lines {begin} and {end}")
    return f"{before}{first}\n{tables}{last}{after}"


def tell(text: str) -> None:
    """To whoever watches; not part of the result."""
    Console(stderr=True).print(text, highlight=False, style="dim")
