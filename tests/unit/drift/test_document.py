"""docs/drift.md names every signal and every word of a verdict."""

from pathlib import Path
from typing import get_args

import pytest

from agent.protocol.drift import Summary, VerdictLevel

PAGE = (Path(__file__).parents[3] / "docs" / "drift.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("word", [*get_args(Summary), *get_args(VerdictLevel)])
def test_every_summary_and_level_is_explained(word: str) -> None:
    assert f"`{word}`" in PAGE


def test_its_table_of_costs_was_measured() -> None:
    _, _, rest = PAGE.partition("<!-- drift bench: begin -->")
    table, _, _ = rest.partition("<!-- drift bench: end -->")
    assert "Measured 20" in table
    assert "python -m hw_bench drift`" in table
