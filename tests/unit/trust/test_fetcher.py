"""The fetcher keeps "there is none", "too long" and "could not ask" apart."""

from typing import get_args

import pytest
from msgspec import Meta
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError

from agent.protocol import manifest
from agent.protocol.verification import FetchedMetadata
from agent.trust import releases
from agent.trust.errors import RefusedError, TrustError, UnreachableError, as_trust_error
from agent.trust.fetcher import BASE_URL, ParentFetcher


def answering(answer: FetchedMetadata) -> ParentFetcher:
    return ParentFetcher(lambda name, maximum: answer)


def test_a_file_comes_as_it_is() -> None:
    assert answering(FetchedMetadata(data=b"x")).download_bytes(BASE_URL + "3.root.json", 1) == b"x"


def test_the_parent_is_told_the_name_and_the_most_bytes() -> None:
    asked: list[tuple[str, int]] = []

    def fetch(name: str, maximum: int) -> FetchedMetadata:
        asked.append((name, maximum))
        return FetchedMetadata(data=b"")

    ParentFetcher(fetch).download_bytes(BASE_URL + "timestamp.json", 77)
    assert asked == [("timestamp.json", 77)]


def test_not_found_is_a_404() -> None:
    with pytest.raises(DownloadHTTPError) as error:
        answering(FetchedMetadata(data=None)).download_bytes(BASE_URL + "9.root.json", 9)
    assert error.value.status_code == 404


def test_no_network_is_not_a_404() -> None:
    with pytest.raises(UnreachableError, match=r"timestamp\.json: offline") as error:
        answering(FetchedMetadata(data=None, error="offline")).download_bytes(BASE_URL + "timestamp.json", 9)
    assert not isinstance(error.value, DownloadHTTPError)
    assert isinstance(error.value, DownloadError)
    assert error.value.reason.code == "no-network"


def test_one_byte_too_many_is_refused() -> None:
    with pytest.raises(DownloadLengthMismatchError):
        answering(FetchedMetadata(data=b"xx")).download_bytes(BASE_URL + "timestamp.json", 1)


@pytest.mark.parametrize(
    "name", ["../x.json", "x", "a/b.json", "?.json", "a b.json", f"{'a' * 129}.json", "x.json\n"]
)
def test_a_name_that_the_hub_can_not_have_is_never_asked_for(name: str) -> None:
    with pytest.raises(RefusedError, match="not a metadata file name"):
        answering(FetchedMetadata(data=b"")).download_bytes(BASE_URL + name, 9)


@pytest.mark.parametrize("name", ["7.Team-A.json", "1...%2Frole.json", "%3F.json"])
def test_a_quoted_role_name_is_asked_for_as_it_is(name: str) -> None:
    assert answering(FetchedMetadata(data=b"x")).download_bytes(BASE_URL + name, 9) == b"x"


def test_any_other_error_is_a_refusal_with_words() -> None:
    error = as_trust_error(RecursionError("too deep"), "the repository")
    assert isinstance(error, TrustError)
    assert (error.reason.code, error.reason.text) == ("malformed", "the repository: too deep")


def test_a_full_disk_is_no_verdict_on_the_hub() -> None:
    error = as_trust_error(OSError(28, "No space left on device"), "the repository")
    assert not isinstance(error, RefusedError)
    assert error.reason.code == "verifier-error"


def test_the_pattern_of_file_names_is_the_wire_contracts() -> None:
    assert pattern_of(manifest.Filename) == rf"^{releases.FILENAME_PATTERN}$(?!\n)"


def pattern_of(annotated: object) -> str | None:
    _, meta = get_args(annotated)
    assert isinstance(meta, Meta)
    return meta.pattern
