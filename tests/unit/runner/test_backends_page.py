from pathlib import Path

from agent.runner.backends.document import page


def test_the_page_of_backends_is_current() -> None:
    assert (Path(__file__).parents[3] / "docs" / "backends.md").read_text(encoding="utf-8") == page()
