"""The link without a broker: what it refuses by itself, and how it fares when nobody is there."""

import asyncio
import random
import socket

import pytest

from agent.protocol.errors import MessageTooLargeError
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.topics import Channel
from agent.transport.backoff import Backoff
from agent.transport.errors import LinkDownError
from agent.transport.mqtt import MqttLink
from agent.transport.settings import LinkSettings


class Failures(random.Random):
    """The link's jitter, which is drawn once after each failure."""

    def __init__(self) -> None:
        super().__init__(1)
        self.third = asyncio.Event()
        self.drawn = 0

    def uniform(self, a: float, b: float) -> float:
        self.drawn += 1
        if self.drawn == 3:
            self.third.set()
        return super().uniform(a, b)


def link_to(port: int, failures: Failures | None = None) -> MqttLink:
    settings = LinkSettings(
        host="127.0.0.1", port=port, connect_seconds=0.2, backoff=Backoff(minimum=0.01, maximum=0.02)
    )
    return MqttLink(settings, device="cam-1", boot="b1", randomness=failures)


async def test_refuses_before_anything_is_sent() -> None:
    link = link_to(1)
    with pytest.raises(ValueError, match="a device publishes on"):
        await link.publish(Channel.DESIRED, b"")
    with pytest.raises(MessageTooLargeError, match="at most 262144"):
        await link.publish(Channel.TELEMETRY, bytes(MAX_MESSAGE_BYTES + 1))
    with pytest.raises(LinkDownError, match="no link to 127"):
        await link.publish(Channel.TELEMETRY, b"{}")


async def test_a_broker_that_is_not_there_is_tried_again_and_again() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, not listening: every connection is refused
        failures = Failures()
        link = link_to(probe.getsockname()[1], failures)
        async with link, asyncio.timeout(10):
            await failures.third.wait()
        assert link.errors["link-failed"] >= 3
        assert not link.is_connected
        assert "refused" in (link.last_problem or "")


async def test_a_broker_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        failures = Failures()
        link = link_to(silent.getsockname()[1], failures)
        async with link, asyncio.timeout(10):
            await failures.third.wait()
        assert "no answer in 0.2 s" in (link.last_problem or "")
