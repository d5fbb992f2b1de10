"""Ranges of a file, against a model that is one slice."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloud_hub.downloads.ranges import asked_stretch, names
from cloud_hub.errors import RangeError

ETAG = '"abc"'


@given(st.integers(0, 50), st.integers(0, 60), st.none() | st.integers(0, 60))
def test_first_and_last(size: int, first: int, last: int | None) -> None:
    data = bytes(range(size))
    wanted = f"bytes={first}-{'' if last is None else last}"
    if last is not None and last < first:
        assert not asked_stretch(size, ETAG, wanted, None).partial, "not well formed: as if it were not there"
    elif first >= size:
        with pytest.raises(RangeError) as refused:
            asked_stretch(size, ETAG, wanted, None)
        assert refused.value.headers == {"Content-Range": f"bytes */{size}"}
    else:
        got = asked_stretch(size, ETAG, wanted, None)
        expected = data[first:] if last is None else data[first : last + 1]
        assert data[got.begin : got.end] == expected
        assert got.content_range == f"bytes {first}-{first + len(expected) - 1}/{size}"


@given(st.integers(0, 50), st.integers(0, 60))
def test_the_last_so_many(size: int, count: int) -> None:
    data = bytes(range(size))
    if count == 0 or size == 0:
        with pytest.raises(RangeError):
            asked_stretch(size, ETAG, f"bytes=-{count}", None)
    else:
        got = asked_stretch(size, ETAG, f"bytes=-{count}", None)
        assert (data[got.begin : got.end], got.partial) == (data[-count:], True)


@given(st.text(max_size=30))
@example("bytes=0-1,3-4")
@example("lines=0-1")
@example("bytes=")
@example("bytes=-")
@example("bytes=٣-٤")
@example("bytes=1-2 ")
@example("bytes=" + "9" * 30 + "-")
def test_whatever_is_sent_is_answered(wanted: str) -> None:
    try:
        got = asked_stretch(10, ETAG, wanted, None)
    except RangeError:
        return
    assert 0 <= got.begin < got.end <= 10
    assert got.partial == (
        re.fullmatch(r"bytes=\s*([0-9]+-[0-9]*|-[0-9]+)\s*", wanted, re.ASCII) is not None
    ) or (not got.partial and (got.begin, got.end) == (0, 10))


@pytest.mark.parametrize(
    ("condition", "partial"),
    [
        (None, True),
        (ETAG, True),
        ('"other"', False),
        ('W/"abc"', False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
    ],
)
def test_if_range_holds_for_this_very_file_alone(condition: str | None, *, partial: bool) -> None:
    assert asked_stretch(10, ETAG, "bytes=3-", condition).partial is partial


@pytest.mark.parametrize(
    ("header", "weak", "expected"),
    [
        (None, True, False),
        ("*", False, True),
        ('"x", "abc"', False, True),
        ('W/"abc"', True, True),
        ('W/"abc"', False, False),
        ('"x"', True, False),
    ],
)
def test_lists_of_entity_tags(header: str | None, *, weak: bool, expected: bool) -> None:
    assert names(header, ETAG, weak=weak) is expected
