"""What this room takes from python-tuf beyond its public interface, pinned: read this before a new version goes in."""

from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from tuf.api.exceptions import ExpiredMetadataError
from tuf.ngclient import Updater

from agent.protocol.verification import FetchedMetadata
from agent.trust.fetcher import BASE_URL, ParentFetcher
from agent.trust.repository import HISTORY
from tests.fault.trust.hub_simulator import HubSimulator


def updater(folder: Path, hub: HubSimulator) -> Updater:
    fetcher = ParentFetcher(lambda name, _: FetchedMetadata(data=hub.store.get(name)))
    return Updater(str(folder), BASE_URL, fetcher=fetcher, bootstrap=hub.store.files["1.root.json"])


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("tuf") == "7.0.1"


def test_the_reference_time_decides_what_is_expired(tmp_path: Path) -> None:
    hub = HubSimulator(start=datetime(2001, 1, 1, tzinfo=UTC))
    client = updater(tmp_path, hub)
    client._trusted_set.reference_time = hub.now
    client.refresh()
    assert client._trusted_set.timestamp.version == 1


def test_the_reference_time_is_compared_in_both_directions(tmp_path: Path) -> None:
    hub = HubSimulator(start=datetime.now(UTC))
    client = updater(tmp_path, hub)
    client._trusted_set.reference_time = hub.now + timedelta(days=2)
    with pytest.raises(ExpiredMetadataError):
        client.refresh()


def test_a_role_can_be_read_with_the_role_that_delegated_it(tmp_path: Path) -> None:
    hub = HubSimulator()
    hub.approve("digits", 1)
    client = updater(tmp_path, hub)
    client._trusted_set.reference_time = hub.now
    assert client.get_targetinfo("models/digits/1/manifest.json") is not None
    assert client._trusted_set.contains("digits", "targets")
    assert client._trusted_set["digits"].version == 2


def test_roots_are_kept_by_version_in_a_folder_of_their_own(tmp_path: Path) -> None:
    hub = HubSimulator()
    hub.rotate_online()
    client = updater(tmp_path, hub)
    client._trusted_set.reference_time = hub.now
    client.refresh()
    assert sorted(path.name for path in (tmp_path / HISTORY).iterdir()) == ["1.root.json", "2.root.json"]


def test_left_alone_it_takes_a_rollback_when_its_files_are_empty(tmp_path: Path) -> None:
    """Why there are marks: if this fails, python-tuf has become safer, and the marks' reasons want another look."""
    hub = HubSimulator()
    old = dict(hub.store.files)
    hub.approve("digits", 1)
    client = updater(tmp_path, hub)
    client._trusted_set.reference_time = hub.now
    client.refresh()
    for name in ("timestamp.json", "snapshot.json"):
        (tmp_path / name).write_bytes(b"")
    hub.store.files = old
    again = updater(tmp_path, hub)
    again._trusted_set.reference_time = hub.now
    again.refresh()
    assert again._trusted_set.timestamp.version == 1
