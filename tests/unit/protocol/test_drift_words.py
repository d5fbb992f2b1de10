import pytest
from msgspec.structs import replace

from agent.protocol.drift import SignalCounts, SignalReference, SignalVerdict
from agent.protocol.drift_words import apart, bin_names, chance, moved, percent, sentence

REFERENCE = SignalReference(
    name="brightness",
    source="input",
    tensor="image",
    summary="brightness",
    edges=(0.0, 0.5, 1.0),
    counts=(0, 50, 50, 0),
    missing=0,
)
VERDICT = SignalVerdict(
    level="drift",
    rows=400,
    psi=0.5,
    js=0.2,
    ks=0.3,
    wasserstein=0.4,
    p_value=0.0004,
    missing_rate=0.0,
    not_finite_rate=0.0,
    outside_rate=0.0,
)


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "0 %"),
        (0.0004, "under 0.1 %"),
        (0.051, "5.1 %"),
        (0.5, "50 %"),
        (0.9997, "over 99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_to_everything(share: float, said: str) -> None:
    assert percent(share) == said


@pytest.mark.parametrize(
    ("p_value", "said"),
    [
        (1.0, "no farther than chance takes them"),
        (0.2, "chance alone does this once in 5 windows"),
        (0.0004, "chance does this once in 2,500 windows"),
        (1e-7, "chance does this less than once in a million windows"),
        (0.0, "chance does this less than once in a million windows"),
    ],
)
def test_a_p_value_is_a_number_of_windows(p_value: float, said: str) -> None:
    assert chance(p_value) == said


def test_where_the_rows_went() -> None:
    assert moved(REFERENCE, SignalCounts(counts=(0, 90, 10, 0))) == "lower than then"
    assert moved(REFERENCE, SignalCounts(counts=(0, 10, 90, 0))) == "higher than then"
    assert moved(REFERENCE, SignalCounts(counts=(0, 51, 50, 0))) == "about where they lay"
    assert moved(REFERENCE, SignalCounts(counts=(0, 0, 0, 0), missing=9)) == "no row has a value"
    classes = replace(REFERENCE, summary="argmax", edges=(-0.5, 0.5, 1.5))
    assert moved(classes, SignalCounts(counts=(0, 90, 10, 0))) == "0 changed most, 50 % then, 90 % now"
    kinds = replace(classes, summary="category", index=0, categories=(3, 8))
    assert moved(kinds, SignalCounts(counts=(0, 30, 30, 40))) == "other changed most, 0 % then, 40 % now"
    assert bin_names(kinds) == ["under", "3", "8", "other"]
    assert bin_names(REFERENCE) == ["under", "0 to 0.5", "0.5 to 1", "over"]


def test_what_lies_outside_is_told_where_it_has_changed() -> None:
    assert apart(REFERENCE, SignalCounts(counts=(0, 50, 50, 0)), 100) == ""
    found = SignalCounts(counts=(20, 30, 30, 0), missing=15, not_finite=5)
    assert apart(REFERENCE, found, 100) == (
        "20 % under the range (0 % then), 15 % missing (0 % then), 5 % not a number (0 % then)"
    )


def test_one_sentence_says_what_is_wrong_first() -> None:
    lower = SignalCounts(counts=(0, 350, 50, 0))
    assert sentence(REFERENCE, lower, VERDICT, 100) == (
        "Lower than then; chance does this once in 2,500 windows (400 rows)."
    )
    gaps = SignalCounts(counts=(0, 150, 150, 0), not_finite=100)
    broken = replace(VERDICT, psi=0.01, not_finite_rate=0.25)
    assert sentence(REFERENCE, gaps, broken, 100) == (
        "What is wrong: 25 % not a number (0 % then). The others lie about where they lay."
    )
    assert "look whether the sensor is stuck" in sentence(
        REFERENCE, lower, replace(VERDICT, constant=True), 100
    )
    few = replace(VERDICT, level="insufficient data", rows=40)
    assert sentence(REFERENCE, lower, few, 100) == "40 rows are too few to say."
