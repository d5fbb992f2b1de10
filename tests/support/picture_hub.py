"""A hub in a folder with the fleet to look at, served to a browser: ``python -m tests.support.picture_hub [WELL]``."""

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvicorn
from litestar.testing import TestClient

from agent.protocol.evidence import Evaluation
from agent.protocol.manifest import Manifest
from cloud_hub import setup
from cloud_hub.access.service import Role
from cloud_hub.app import create_app
from cloud_hub.cli.ceremony import hold_ceremony
from cloud_hub.config import load_config
from cloud_hub.hub import Hub, Publisher
from tests.support import picture_fleet
from tests.support.ports import free_port
from tests.unit.cloud_hub.conftest import RecordingPublisher
from tests.unit.cloud_hub.hub_world import APPROVERS, People
from tests.unit.cloud_hub.sample_release import release_files


@contextlib.contextmanager
def picture_hub(folder: Path, *, well: int = 6, days: int = picture_fleet.DAYS) -> Iterator[Hub]:
    """A hub whose fleet has served for ``days`` days; its pages are open on loopback."""
    setup.create_hub(folder / "hub", host="127.0.0.1", port=8500, broker_port=8510, open_dashboard=True)
    config, paths = load_config(folder / "hub" / "hub.toml")
    config = msgspec.structs.replace(
        config, dashboard=msgspec.structs.replace(config.dashboard, open_on_loopback=True)
    )
    hub = Hub(config, paths)
    try:
        publisher: Publisher = RecordingPublisher()
        hub.publisher = publisher
        hold_ceremony(
            paths, folder / "keys", approvers=APPROVERS, models=["digits"], root_keys=3, threshold=2
        )
        _release(hub, folder)
        picture_fleet.populate(hub, well=well, days=days)
        yield hub
    finally:
        hub.close()


def _as_accurate_as_it_is(manifest: Manifest) -> Manifest:
    """What the fleet's rows come to."""
    variants = tuple(
        msgspec.structs.replace(each, accuracy=picture_fleet.ACCURACY) for each in manifest.variants
    )
    return msgspec.structs.replace(manifest, variants=variants)


def _release(hub: Hub, folder: Path) -> None:
    def with_reference(files: dict[str, bytes]) -> None:
        files["reference.json"] = picture_fleet.reference_file()
        found = msgspec.json.decode(files["evaluation.json"], type=Evaluation)
        files["evaluation.json"] = msgspec.json.encode(
            msgspec.structs.replace(
                found,
                variants=tuple(
                    msgspec.structs.replace(each, accuracy=picture_fleet.ACCURACY) for each in found.variants
                ),
            )
        )

    roles = (Role.AUTHOR, Role.APPROVER)
    tokens = {
        role.value: setup.new_token(hub.paths.database, name=f"the-{role}", role=role) for role in roles
    }
    with TestClient(create_app(hub)) as client:
        people = People(client, tokens, folder / "keys")
        people.publish(
            release_files(picture_fleet.RELEASE, change=with_reference, rewrite=_as_accurate_as_it_is)
        )


@contextlib.contextmanager
def served(hub: Hub) -> Iterator[str]:
    """The hub's API and pages on a port of loopback; yields the address."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(create_app(hub), host="127.0.0.1", port=port, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the hub's pages did not come up"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def main() -> None:
    well = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    with (
        tempfile.TemporaryDirectory(prefix="edgeward-pictures-") as folder,
        picture_hub(Path(folder), well=well) as hub,
        served(hub) as address,
        contextlib.suppress(KeyboardInterrupt),
    ):
        print(address, flush=True)  # noqa: T201 - where to look
        threading.Event().wait()


if __name__ == "__main__":
    main()
