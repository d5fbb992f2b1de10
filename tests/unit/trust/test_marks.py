"""Version marks: what binds which key set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocol.verification import Mark
from agent.trust.errors import RefusedError
from agent.trust.marks import KeySet, MarkBook

ABC = KeySet(2, frozenset({"a", "b", "c"}))
KEY_SETS = st.builds(
    KeySet, st.integers(1, 3), st.frozensets(st.sampled_from("abcdef"), min_size=3, max_size=4)
)


def test_a_key_set_reads_what_it_writes() -> None:
    assert ABC.text == "2:a,b,c"
    assert KeySet.parse("2:a,b,c") == ABC


@pytest.mark.parametrize("text", ["", "2", "2:", "x:a", ":a"])
def test_what_is_no_key_set_binds_under_any_keys(text: str) -> None:
    assert KeySet.parse(text) is None
    assert MarkBook([Mark(role="digits", keys=text, version=5)]).floor("digits", ABC) == 5


def test_an_older_version_is_refused_and_the_same_or_a_newer_one_is_not() -> None:
    book = MarkBook([Mark(role="digits", keys=ABC.text, version=5)])
    book.check("digits", ABC, 5)
    book.check("digits", ABC, 6)
    with pytest.raises(RefusedError, match="version 4 is older than 5") as refused:
        book.check("digits", ABC, 4)
    assert refused.value.reason.code == "rollback-attack"


def test_one_revoked_approver_does_not_reset_the_mark() -> None:
    """Two of the old three still make the threshold, so what they signed before would still verify."""
    book = MarkBook([Mark(role="digits", keys=ABC.text, version=5)])
    assert book.floor("digits", KeySet(2, frozenset({"a", "b", "d"}))) == 5


def test_keys_that_could_not_verify_the_old_document_start_a_new_mark() -> None:
    book = MarkBook([Mark(role="digits", keys=ABC.text, version=2**40)])
    assert book.floor("digits", KeySet(2, frozenset({"a", "d", "e"}))) == 0


def test_roots_are_counted_through_whatever_their_keys() -> None:
    book = MarkBook([Mark(role="root", keys="2:x,y,z", version=3)])
    assert book.floor("root", ABC) == 3


def test_roles_do_not_share_marks() -> None:
    assert MarkBook([Mark(role="faces", keys=ABC.text, version=9)]).floor("digits", ABC) == 0


@given(st.lists(st.tuples(st.sampled_from(["digits", "faces"]), KEY_SETS, st.integers(1, 9))), KEY_SETS)
def test_marks_never_fall_and_survive_storage(seen: list[tuple[str, KeySet, int]], keys: KeySet) -> None:
    book = MarkBook([])
    for role, signers, version in seen:
        before = book.floor(role, keys)
        book.record(role, signers, version)
        assert book.floor(role, keys) >= before
        assert book.floor(role, signers) >= version
    again = MarkBook(book.marks())
    assert again.marks() == book.marks()
    assert all(again.floor(role, keys) == book.floor(role, keys) for role in ("digits", "faces"))
