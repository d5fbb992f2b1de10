"""An attacker who owns the hub's machine: its database, its artifacts, an operator's token. Not the approvers' keys."""

import hashlib
import json
import sqlite3
import time
from contextlib import closing

from tests.acceptance.world import MODEL, World


def plant_release(world: World, release: int) -> None:
    """Put a release that nobody approved where the hub keeps published ones, and have the hub roll it out."""
    folder = world.release_folder("student")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["release"] = release
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    files["manifest.json"] = json.dumps(manifest).encode()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    for name, data in files.items():
        (world.hub_folder / "artifacts" / digests[name]).write_bytes(data)
    now = time.time()
    with closing(sqlite3.connect(world.hub_folder / "hub.db", timeout=10)) as database, database:
        database.execute(
            "INSERT INTO releases (model, release, state, author, created, submitted, published, role_version) "
            "VALUES (?, ?, 'published', 'mallory', ?, ?, ?, 2)",
            (MODEL, release, now, now, now),
        )
        database.executemany(
            "INSERT INTO release_files (model, release, filename, sha256, size) VALUES (?, ?, ?, ?, ?)",
            [(MODEL, release, name, digests[name], len(data)) for name, data in files.items()],
        )
    world.rollout(release, "100%")
