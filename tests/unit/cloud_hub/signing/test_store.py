"""Metadata in a folder."""

from pathlib import Path

import pytest

from cloud_hub.signing.errors import RepositoryStateError
from cloud_hub.signing.store import FolderMetadataStore


def test_what_was_put_is_got_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    store = FolderMetadataStore(tmp_path / "metadata")
    store.put_all({"1.root.json": b"a", "timestamp.json": b"b"})
    store.put_all({"timestamp.json": b"c"})
    assert FolderMetadataStore(tmp_path / "metadata").get("timestamp.json") == b"c"
    assert sorted(path.name for path in (tmp_path / "metadata").iterdir()) == [
        "1.root.json",
        "timestamp.json",
    ]


def test_what_was_never_put(tmp_path: Path) -> None:
    assert FolderMetadataStore(tmp_path).get("2.root.json") is None


@pytest.mark.parametrize(
    "name", ["../secret.json", "/etc/passwd", "x", ".hidden.json", "a/b.json", "x.json\n"]
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.json").write_bytes(b"secret")
    store = FolderMetadataStore(tmp_path / "metadata")
    assert store.get(name) is None
    with pytest.raises(RepositoryStateError, match="not a metadata file name"):
        store.put_all({name: b""})
