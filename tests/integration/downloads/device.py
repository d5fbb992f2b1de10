"""A device that does nothing but fetch one artifact: ``python -m tests.integration.downloads.device ORDER``.

The order is one JSON document; the parts are the agent's own. Every progress is a line of JSON on standard output, and so is the
end.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from agent.errors import ReleaseError
from agent.protocol.ids import Digest
from agent.service.downloads import ArtifactDownloader, TransferPolicy
from agent.service.transfers import DeploymentMeter, Transfers
from agent.store.artifacts import ArtifactStore
from agent.transport.asking import TransferSettings
from agent.transport.backoff import Backoff
from agent.transport.blocks import BlockClient
from agent.transport.http_ranges import HttpRanges
from agent.transport.mqtt import MqttLink
from agent.transport.settings import LinkSettings


def say(**parts: Any) -> None:
    print(json.dumps(parts), flush=True)  # noqa: T201 - its output is what it is for


async def fetch(order: dict[str, Any]) -> None:
    broker = LinkSettings(
        host=order["broker"][0], port=order["broker"][1], backoff=Backoff(minimum=0.2, maximum=1.0)
    )
    store = ArtifactStore(Path(order["folder"]), quota_bytes=1 << 30)
    digest, size = Digest(order["sha256"]), order["size"]
    transfers = Transfers()
    meter = DeploymentMeter(transfers, [digest])

    def told(done: int) -> None:
        meter.told(done, size)
        progress = meter.progress(time.monotonic())
        assert progress is not None
        say(done=done, way=progress.way, rate=progress.bytes_per_second)

    async with MqttLink(broker, device=order["device"], boot=f"b{time.monotonic_ns()}") as link:
        blocks = BlockClient(
            link,
            TransferSettings(
                answer=Backoff(**order.get("answer", {"minimum": 2, "maximum": 8})),
                offline_seconds=order.get("offline_seconds", 10.0),
            ),
        )
        http = HttpRanges(blocks.locate, Path(order["authority"]) if order["authority"] else None)
        policy = TransferPolicy(
            order=tuple(order["ways"]),
            small_bytes=0,
            tries=order.get("tries", 4),
            backoff=Backoff(minimum=0.2, maximum=1.0),
        )
        downloader = ArtifactDownloader(
            {"mqtt": blocks, "http": http},
            store,
            policy,
            transfers=transfers,
            prepare=http.prepare,
            randomness=random.Random(1),
        )
        link.on_connect(awaited(downloader.wake))
        began = time.monotonic()
        try:
            path = await downloader.obtain(digest, size, told)
        except ReleaseError as error:
            say(code=error.reason.code, text=error.reason.text)
            return
        say(
            path=str(path),
            seconds=round(time.monotonic() - began, 2),
            arrived=transfers.arrived([digest]),
            version=http.version,
        )


def awaited(work: Any) -> Any:
    async def call() -> None:
        work()

    return call


if __name__ == "__main__":
    asyncio.run(fetch(json.loads(sys.argv[1])))
