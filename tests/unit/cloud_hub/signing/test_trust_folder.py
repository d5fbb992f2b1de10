"""What a person's machine keeps: it survives a power cut, and an older repository is not taken for the newest."""

from pathlib import Path

import pytest

from cloud_hub.signing.errors import TrustFolderError, UntrustedBaseError
from cloud_hub.signing.publication import published_roots, published_set
from cloud_hub.signing.trust_folder import NAMES, TrustFolder
from tests.fault.approvals.hostile_hub import HostileHub


@pytest.fixture
def hub(tmp_path: Path) -> HostileHub:
    """Ada has seen release 1 published, and version 2 of the role."""
    hub = HostileHub(tmp_path)
    hub.submit(1)
    hub.approve_as("ada", 1)
    hub.approve_as("ben", 1)
    hub.submit(2)
    hub.approve_as("ada", 2, confirm=False)
    return hub


def kept(hub: HostileHub) -> list[Path]:
    return [hub.folder / "trust" / name for name in NAMES]


def test_a_power_cut_that_empties_one_file_costs_nothing(hub: HostileHub) -> None:
    for path in kept(hub):
        whole = path.read_bytes()
        path.write_bytes(b"")
        assert hub.approve_as("ada", 2, confirm=False).receipt is None
        path.write_bytes(whole)


@pytest.mark.parametrize("left", [b"", b"{}", b"\x00" * 100], ids=["empty", "other", "zeros"])
def test_two_damaged_files_are_said_and_never_taken_for_a_new_beginning(hub: HostileHub, left: bytes) -> None:
    for path in kept(hub):
        path.write_bytes(left)
    with pytest.raises(TrustFolderError, match=r"trust\.json and trust\.copy\.json can't be read.*backup"):
        hub.approve_as("ada", 2)


def test_a_changed_byte_is_seen(hub: HostileHub) -> None:
    for path in kept(hub):
        path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":1', 1))
    with pytest.raises(TrustFolderError, match="can't be read"):
        hub.approve_as("ada", 2)


def test_an_older_repository_is_refused_though_the_files_of_the_updater_are_gone(hub: HostileHub) -> None:
    """With python-tuf's own files alone, empty after a power cut, this rollback went through."""
    trust = TrustFolder(hub.folder / "trust")
    trust.save({name: b"" for name in trust.files if not name.endswith(".root.json")})
    hub.list_first_version_again()
    with pytest.raises(UntrustedBaseError, match=r"you have seen \d already"):
        hub.approve_as("ada", 2)


def test_nothing_is_signed_where_it_could_not_be_remembered(
    hub: HostileHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    hub.approve_as("ada", 2)
    hub.approve_as("ben", 2)
    hub.submit(3)
    before = [path.read_bytes() for path in kept(hub)]
    monkeypatch.setattr("cloud_hub.durable.os.fsync", full)
    with pytest.raises(TrustFolderError, match="No space left on device; nothing was signed"):
        hub.approve_as("cyd", 3)
    assert [path.read_bytes() for path in kept(hub)] == before
    assert sorted(path.name for path in (hub.folder / "trust").iterdir()) == sorted(["root.json", *NAMES])


def test_a_ceremony_file_from_an_older_repository_is_refused(hub: HostileHub) -> None:
    trust = TrustFolder(hub.folder / "trust")
    roots = tuple(published_roots(hub.store))
    trust.accept(roots, published_set(hub.store))
    hub.list_first_version_again()
    with pytest.raises(UntrustedBaseError, match="version 1 of digits; you have seen 2"):
        TrustFolder(hub.folder / "trust").accept(roots, published_set(hub.store))


def test_a_ceremony_file_with_roots_of_somebody_else_is_refused(hub: HostileHub, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = HostileHub(tmp_path / "other")
    with pytest.raises(UntrustedBaseError, match="root 1 in the file is not the one that you trust"):
        TrustFolder(hub.folder / "trust").accept(
            tuple(published_roots(other.store)), published_set(other.store)
        )


def test_no_root(tmp_path: Path) -> None:
    with pytest.raises(TrustFolderError, match=r"root\.json: No such file or directory; the ceremony"):
        TrustFolder(tmp_path)
