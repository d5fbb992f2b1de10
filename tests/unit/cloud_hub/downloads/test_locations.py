"""Signed locations."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from cloud_hub.downloads.locations import KEY_FILE, Claim, LocationKey, claim_of
from cloud_hub.errors import ForbiddenError, GoneError

DIGEST = "ab" * 32


@pytest.fixture
def key(tmp_path: Path) -> LocationKey:
    return LocationKey.open(tmp_path / "keys")


def signed(key: LocationKey, expires: int = 2000) -> Claim:
    url = urlsplit(key.sign("https://hub.example:8443/", DIGEST, "cam-1", expires))
    assert (url.scheme, url.netloc, url.path) == ("https", "hub.example:8443", f"/v1/artifacts/{DIGEST}")
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    claim = claim_of(query["device"], query["expires"], query["signature"])
    assert claim is not None
    return claim


def test_a_location_holds_until_it_expires(key: LocationKey) -> None:
    key.check(DIGEST, signed(key), 1999.9)
    with pytest.raises(GoneError, match="expired; ask for a new one"):
        key.check(DIGEST, signed(key), 2000.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"device": "cam-2"},
        {"expires": 9_999_999},
        {"signature": ""},
        {"signature": "é"},
        {"signature": "A" * 43},
    ],
)
def test_nothing_in_it_can_be_changed(key: LocationKey, changed: dict[str, object]) -> None:
    claim = signed(key)
    parts = {"device": claim.device, "expires": claim.expires, "signature": claim.signature, **changed}
    with pytest.raises(ForbiddenError, match="was not signed by this hub"):
        key.check(DIGEST, Claim(**parts), 1000)  # type: ignore[arg-type]


def test_it_is_for_one_artifact(key: LocationKey) -> None:
    with pytest.raises(ForbiddenError):
        key.check("cd" * 32, signed(key), 1000)


def test_a_hub_that_starts_again_knows_what_it_has_signed_and_another_one_does_not(
    key: LocationKey, tmp_path: Path
) -> None:
    LocationKey.open(tmp_path / "keys").check(DIGEST, signed(key), 1000)
    with pytest.raises(ForbiddenError):
        LocationKey.open(tmp_path / "other").check(DIGEST, signed(key), 1000)
    assert (tmp_path / "keys" / KEY_FILE).stat().st_mode & 0o077 == 0


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(ForbiddenError, match=r"locations\.key: 5 bytes, 32 are expected"):
        LocationKey.open(tmp_path)


@pytest.mark.parametrize(
    ("device", "expires", "signature"),
    [
        ("d", None, None),
        (None, "1", "s"),
        ("d", "soon", "s"),
        ("d", "٣", "s"),
        ("d", "1" * 13, "s"),
        ("d", "-1", "s"),
    ],
)
def test_half_a_claim_is_refused(device: str | None, expires: str | None, signature: str | None) -> None:
    with pytest.raises(ForbiddenError):
        claim_of(device, expires, signature)


def test_no_claim_is_none() -> None:
    assert claim_of(None, None, None) is None
