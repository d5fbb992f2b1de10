"""A TUF client on Edgeward's own trust code, for the public suite tuf-conformance (its CLIENT-CLI.md is the contract).

``client.py [--fetcher http|mqtt] --metadata-dir DIR [--metadata-url URL …] init|refresh|download``; see docs/trust.md.
Trust lies in ``trust.db`` in the metadata folder, as on a device; the ``.json`` files beside it are copies for the suite.
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # the suite runs this file from anywhere

from tuf.api.exceptions import RepositoryError

from agent.store.errors import StoreError
from agent.store.trust_db import TrustDatabase
from agent.transport.errors import TransportError
from agent.trust.errors import TrustError
from agent.trust.repository import TrustedRepository
from tests.conformance.foreign import Way, check, obtain, show_metadata

log = logging.getLogger("conformance")


def main(argv: Sequence[str] | None = None) -> int:
    """0 when all of it succeeded, else 1 with the reason on stderr."""
    options = _parser().parse_args(argv)
    if options.fetcher == "mqtt" and options.clock is None:
        _leave_faketime()
    logging.basicConfig(level=logging.ERROR)
    trust = TrustDatabase(options.metadata_dir / "trust.db")
    try:
        if options.command == "init":
            trust.initialise(options.trusted_root.read_bytes())
        else:
            asyncio.run(_work(options, trust))
    except (TrustError, TransportError, RepositoryError, StoreError, LookupError, OSError) as error:
        sys.stderr.write(f"{options.command}: {error}\n")
        return 1
    finally:
        show_metadata(trust, options.metadata_dir)
        trust.close()
    return 0


async def _work(options: argparse.Namespace, trust: TrustDatabase) -> None:
    async with _open(options) as way:

        async def fetch_targets(repository: TrustedRepository) -> None:
            for path in options.target_name if options.command == "download" else ():
                await obtain(repository, path, way, options.target_dir)

        await check(trust, way, fetch_targets, clock=time.time() if options.clock is None else options.clock)


def _leave_faketime() -> None:
    """Start anew with its time as an argument: under its library no thread's wait ends (0.9.10), and a link has threads."""
    if "faketime" in os.environ.get("LD_PRELOAD", ""):
        kept = {
            name: value
            for name, value in os.environ.items()
            if "FAKETIME" not in name and name != "LD_PRELOAD"
        }
        again = [sys.executable, __file__, "--clock", str(time.time()), *sys.argv[1:]]
        os.execve(sys.executable, again, kept)


@asynccontextmanager
async def _open(options: argparse.Namespace) -> AsyncIterator[Way]:
    bases = _based(options.metadata_url), _based(options.target_base_url or "")
    if options.fetcher == "http":
        from tests.conformance.http_way import HttpWay

        yield HttpWay(*bases)
        return
    from tests.conformance.mqtt_way import open_mqtt_way

    with tempfile.TemporaryDirectory(prefix="edgeward-broker-") as folder:
        async with open_mqtt_way(Path(folder), *bases) as way:
            yield way


def _based(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="client.py", description="Edgeward's TUF client, for tuf-conformance."
    )
    parser.add_argument("--fetcher", choices=("http", "mqtt"), default="http")
    parser.add_argument("--clock", type=float, metavar="SECONDS", help="this machine's clock, Unix seconds")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


if __name__ == "__main__":
    sys.exit(main())
