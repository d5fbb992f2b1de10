from pathlib import Path

import pytest

from hw_bench.errors import SubjectError
from hw_bench.page import with_tables

BEGIN, END = "<!-- begin -->", "<!-- end -->"


def test_a_page_keeps_what_stands_around_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert with_tables(page, "new\n", BEGIN, END) == "new\n"
    page.write_text(f"# Title\n{BEGIN}\nold\n{END}\nend\n")
    assert with_tables(page, "new\n", BEGIN, END) == f"# Title\n{BEGIN}\nnew\n{END}\nend\n"


@pytest.mark.parametrize("text", ["# Title\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_a_page_without_both_markers_is_not_written_over(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(SubjectError, match=r"page\.md is there, and is not written over: no lines"):
        with_tables(page, "new\n", BEGIN, END)
