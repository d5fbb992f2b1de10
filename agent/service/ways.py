"""The ways by which files reach this device, wired: blocks over MQTT, ranges over HTTP, what they cost."""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from agent.config import TransferConfig
from agent.protocol.ids import Digest
from agent.service.downloads import ArtifactDownloader, TransferPolicy
from agent.service.sink import RateLimit
from agent.service.transfers import Transfers
from agent.store.artifacts import ArtifactStore
from agent.store.ledger import Ledger
from agent.transport.backoff import Backoff
from agent.transport.blocks import BlockClient
from agent.transport.http_ranges import HttpRanges
from agent.transport.mqtt import MqttLink


class Ways(Struct, frozen=True, kw_only=True):
    """What fetches, and what is known of what it fetches."""

    blocks: BlockClient
    downloader: ArtifactDownloader
    transfers: Transfers


def open_ways(
    config: TransferConfig,
    link: MqttLink,
    artifacts: ArtifactStore,
    ledger: Ledger,
    *,
    authority: Path | None,
    now: Callable[[], float],
) -> Ways:
    """Wire them; every byte is counted for its purpose.

    Args:
        config: the owner's ``[transfer]`` settings.
        link: takes over its messages of files.
        artifacts: where files go.
        ledger: where bytes are counted.
        authority: PEM of the hub's authority, for HTTPS.
        now: trusted time, Unix seconds, by which HTTPS certificates are judged.
    """
    transfers = Transfers()

    def purpose(digest: str) -> str:
        return transfers.flow(digest).purpose

    def spent(what: str, bytes_in: int, bytes_out: int) -> None:
        ledger.add(what, bytes_in=bytes_in, bytes_out=bytes_out)

    def fetched(digest: Digest, bytes_in: int, bytes_out: int) -> None:
        spent(purpose(digest), bytes_in, bytes_out)

    link.counted = spent
    blocks = BlockClient(link, counted=spent, purpose=purpose)
    http = HttpRanges(blocks.locate, authority, counted=fetched, clock=now)
    rate = config.limit_bytes_per_second
    downloader = ArtifactDownloader(
        {"mqtt": blocks, "http": http},
        artifacts,
        TransferPolicy(
            order=config.order,
            small_bytes=config.small_bytes,
            minimum_bytes_per_second=config.minimum_bytes_per_second,
            stuck_seconds=config.stuck_seconds,
            tries=config.tries,
            backoff=Backoff(minimum=config.backoff_seconds, maximum=config.longest_backoff_seconds),
        ),
        transfers=transfers,
        prepare=http.prepare,
        limit=None if rate is None else RateLimit(rate),
    )
    return Ways(blocks=blocks, downloader=downloader, transfers=transfers)
