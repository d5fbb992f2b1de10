"""The hub's own keys: the published metadata says which of them count, in a hub that runs too."""

import json
import subprocess
import sys
from typing import Any

import pytest

from cloud_hub.cli.ceremony import begin, publish_ceremony
from cloud_hub.hub import Hub
from cloud_hub.signing.ceremony import sign_all
from cloud_hub.signing.ceremony_file import examine
from cloud_hub.signing.errors import KeyFileError
from cloud_hub.signing.keys import open_key
from cloud_hub.signing.own_keys import DIRECTOR_KEY, ONLINE_KEY, OwnKeys
from tests.unit.cloud_hub.conftest import RecordingPublisher
from tests.unit.cloud_hub.hub_world import People
from tests.unit.cloud_hub.sample_release import release_files

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from cloud_hub.signing.store import FolderMetadataStore
with FolderMetadataStore(Path(sys.argv[1])).exclusive():
    print("held", flush=True)
    sys.stdin.readline()
    FolderMetadataStore(Path(sys.argv[1])).put_all({"9.marker.json": b"{}"})
"""


def recover(hub: Hub, people: People) -> None:
    keys = OwnKeys(hub.paths.online_keys)

    def change(changes: Any, _published: Any) -> None:
        changes.rotate_online(keys.make(ONLINE_KEY))
        changes.rotate_director(keys.make(DIRECTOR_KEY))

    signers = [open_key(people.keys / "offline", name) for name in ("root-1", "root-3")]
    publish_ceremony(hub.paths, examine(sign_all(begin(hub.paths, change), signers)), "recover-online")


def test_a_running_hub_takes_up_new_keys_and_signs_its_devices_documents_anew(
    hub: Hub, people: People
) -> None:
    people.publish(release_files())
    people.enrol("cam-1")
    people.ok("operator", "POST", "/v1/rollouts", json={"model": "digits", "release": 1})
    before = people.ok("viewer", "GET", "/v1/devices/cam-1")["desired_version"]
    old = hub.director_signing.director.keyid
    recover(hub, people)
    new = hub.director_signing.director.keyid
    assert new != old
    assert isinstance(hub.publisher, RecordingPublisher)
    hub.publisher.devices.clear()
    hub.tick()
    assert people.ok("viewer", "GET", "/v1/devices/cam-1")["desired_version"] == before + 1
    assert hub.publisher.devices == ["cam-1"]
    hub.tick()
    assert people.ok("viewer", "GET", "/v1/devices/cam-1")["desired_version"] == before + 1
    hub.refresh_timestamp()
    signed = json.loads(hub.repository.published("timestamp"))["signatures"]
    root = json.loads(hub.root())["signed"]["roles"]["timestamp"]["keyids"]
    assert [signature["keyid"] for signature in signed] == root
    assert sorted(path.name for path in hub.paths.online_keys.glob("*.pem")) == [
        "director-2.pem",
        "online-2.pem",
    ]


def test_a_hub_without_its_key_says_so_when_it_starts(hub: Hub, people: People) -> None:
    recover(hub, people)
    (hub.paths.online_keys / "online-2.pub.json").unlink()
    with pytest.raises(KeyFileError, match="does not have the online key that the repository names"):
        hub.recover()


def test_a_root_whose_copy_a_crash_cut_off_is_completed(hub: Hub, people: People) -> None:
    old = hub.root()
    recover(hub, people)
    newest = hub.root()
    (hub.paths.metadata / "root.json").write_bytes(old)
    hub.recover()
    assert hub.root() == newest


def test_hub_and_ceremony_never_publish_at_the_same_time(hub: Hub) -> None:
    """Another process holds the folder: the hub waits for it, and then sees what it wrote."""
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(hub.paths.metadata)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        other.stdin.write("go on\n")
        other.stdin.close()
        with hub.metadata.exclusive(), hub.metadata.exclusive():
            assert hub.metadata.get("9.marker.json") == b"{}"
        assert other.wait(timeout=30) == 0


def test_a_key_that_is_kept_elsewhere_is_noted_by_its_uri(hub: Hub, people: People, tmp_path: Any) -> None:
    signer = open_key(people.keys / "approvers", "carol")
    uri = f"file2:{people.keys / 'approvers' / 'carol.pem'}"
    keys = OwnKeys(hub.paths.online_keys)
    keys.adopt(ONLINE_KEY, uri, signer.public_key)
    found = keys.find([signer.public_key.keyid])
    assert found is not None
    assert found.sign(b"x").signature == signer.sign(b"x").signature
    assert not (hub.paths.online_keys / "online-2.pem").exists()
