"""The judgement of a candidate that was fed copies of live requests."""

import pytest

from agent.core.judgement import judge_shadow, shadow_text
from agent.protocol.state import ShadowFigures, ShadowPolicy

FIGURES = ShadowFigures(requests=150, rows=200, disagreed=5, failed=1)


def test_over_the_maximum_is_refused_with_the_figures() -> None:
    reason = judge_shadow(FIGURES, ShadowPolicy(maximum_disagreement=0.02))
    assert reason is not None
    assert reason.code == "shadow-disagreement"
    assert reason.text == (
        "on live requests 5 of 200 rows (2.5%) were answered otherwise than by what serves, 1 of 150 requests failed, "
        "at most 2.0% is allowed"
    )


@pytest.mark.parametrize("maximum", [0.025, 0.5, 1.0, None])
def test_at_or_under_the_maximum_or_without_one_it_passes(maximum: float | None) -> None:
    assert judge_shadow(FIGURES, ShadowPolicy(maximum_disagreement=maximum)) is None


def test_nothing_compared_holds_nothing_against_it_even_where_nothing_is_allowed() -> None:
    assert judge_shadow(ShadowFigures(dropped=9), ShadowPolicy(maximum_disagreement=0.0)) is None


def test_one_row_is_enough_to_be_refused() -> None:
    seen = ShadowFigures(requests=1, rows=1, disagreed=1)
    assert judge_shadow(seen, ShadowPolicy(maximum_disagreement=0.0)) is not None


def test_the_text_says_how_far_it_is() -> None:
    assert shadow_text(ShadowFigures(), ShadowPolicy()) == "0 of 200 requests"
    seen = ShadowFigures(requests=37, rows=82, disagreed=1)
    assert shadow_text(seen, ShadowPolicy()) == "37 of 200 requests, 1.2 % disagree"
    none = ShadowFigures(requests=37, rows=82)
    assert shadow_text(none, ShadowPolicy()) == "37 of 200 requests, 0 % disagree"
