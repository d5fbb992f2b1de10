"""A wrong declaration is refused in the words of whoever wrote it: where, what, and what is allowed."""

from pathlib import Path

import pytest

from models.errors import DeclarationError
from models.reference.declaration import parse_declaration, read_declaration, source_of
from models.reference.document import document

GOOD = """
[policy]
window_rows = 600

[signals.age]
summary = "value"
column = "age"

[signals.confidence]
summary = "confidence"
"""


def test_signals_come_in_their_order_with_defaults_and_the_policy_as_declared() -> None:
    declaration = parse_declaration(GOOD, source="signals.toml")
    assert list(declaration.signals) == ["age", "confidence"]
    assert [source_of(signal) for signal in declaration.signals.values()] == ["input", "output"]
    assert (declaration.policy.window_rows, declaration.policy.alpha) == (600, 0.01)
    assert declaration.signals["age"].bins == 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("signals = ", "signals.toml: not TOML"),
        ("", "signals: is missing and has no default"),
        ("[signals]", "signals: at least one is needed, as a table [signals.NAME]"),
        ('[signals."Äge"]\nsummary = "mean"', "signals: 'Äge' is not a name for an entry; allowed: 1-64"),
        ("[signals.a]", 'signals.a.summary: is missing and has no default; allowed: "argmax", "brightness", '),
        ('[signals.a]\nsummary = "median"', "signals.a.summary = 'median': allowed: \"argmax\", "),
        ('[signals.a]\nsummary = "mean"\nbin = 5', "signals.a.bin = 5: there is no such setting; allowed here: summary"),
        ('[signals.a]\nsummary = "mean"\nbins = 1', "signals.a.bins = 1: allowed: a whole number ≥ 2, ≤ 64"),
        ('[signals.a]\nsummary = "mean"\n[policy]\nalpha = 2', "policy.alpha = 2: allowed: a number ≥ 0, ≤ 1"),
        ('[signals.a]\nsummary = "value"', "signals.a: summary 'value' is of one element: set 'column' or 'index'"),
        ('[signals.a]\nsummary = "value"\nindex = 0\ncolumn = "b"', "set 'column' or 'index', and not both"),
        ('[signals.a]\nsummary = "mean"\nindex = 0', "'column' and 'index' are for the summaries value and category"),
        (
            '[data]\ncolumns = ["x", "y"]\n[signals.a]\nsummary = "value"\ncolumn = "z"',
            "signals.a: column = 'z': is not in data.columns; allowed: x, y",
        ),
        (
            '[signals.a]\nsummary = "mean"\nmissing_value = -1',
            "signals.a: missing_value: is for category and value, this one is 'mean'",
        ),
        ('[signals.a]\nsummary = "rms"\nfull_scale = 1', "full_scale: is for clipping, this one is 'rms'"),
        (
            '[signals.a]\nsummary = "value"\nindex = 0\ncategories = [1]',
            "categories: is for category, this one is 'value'",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parse_declaration(text, source="signals.toml")
    assert str(caught.value).startswith("signals.toml: ")
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"absent\.toml: can't be read"):
        read_declaration(tmp_path / "absent.toml")


def test_the_page_is_what_the_structs_say() -> None:
    page = Path("docs/drift-reference.md").read_text(encoding="utf-8")
    assert page == document(), "python -m models.reference.document > docs/drift-reference.md"


def test_the_pages_table_is_a_declaration_that_is_accepted() -> None:
    example = document().split("```toml\n")[1].split("```")[0]
    assert list(parse_declaration(example, source="page").signals) == [
        "texture",
        "site",
        "confidence",
        "class",
    ]
