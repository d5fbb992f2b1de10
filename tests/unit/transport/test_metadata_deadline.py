"""Slow retrieval: a hub that sends every block just in time can't hold a check up for ever."""

import asyncio

import pytest

from agent.protocol.codec import decode_msgpack
from agent.protocol.topics import Channel
from agent.protocol.transfer import BlockRequest
from agent.transport.asking import TransferSettings
from agent.transport.backoff import Backoff
from agent.transport.blocks import BlockClient
from agent.transport.errors import NoAnswerError
from tests.property.transport.test_lossy_transfer import BLOCK, LossyLink


class Trickle(LossyLink):
    """Answers every request, well within the patience for one block."""

    async def publish(self, channel: Channel, payload: bytes) -> None:
        assert channel is Channel.REQUEST
        response = self.respond(decode_msgpack(payload, BlockRequest))
        self.requests.append(decode_msgpack(payload, BlockRequest))
        asyncio.get_running_loop().call_later(0.03, self.handlers[type(response)], response)


async def test_a_trickle_does_not_move_the_deadline_of_a_metadata_file() -> None:
    link = Trickle({"1.targets.json": bytes(1_000 * BLOCK)}, 1, 0.0)
    settings = TransferSettings(
        block_bytes=BLOCK, answer=Backoff(minimum=5.0, maximum=5.0), metadata_seconds=0.3
    )
    began = asyncio.get_running_loop().time()
    with pytest.raises(NoAnswerError, match=r"1\.targets\.json: not here after 0\.3 s"):
        await BlockClient(link, settings).fetch_metadata("1.targets.json", 2_000 * BLOCK)
    assert asyncio.get_running_loop().time() - began < 5.0
    assert 2 <= len(link.requests) <= 20, "it came, block by block"
