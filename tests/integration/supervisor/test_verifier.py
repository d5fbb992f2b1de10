"""The supervisor with the real verifier process, against the maintained hub simulator."""

import pytest

from agent.protocol.verification import FetchedMetadata, FetchMetadata, VerifyRequest
from agent.supervisor.verifier import Fetch, verify
from tests.fault.trust.hub_simulator import DEVICE, HubSimulator


@pytest.fixture
def hub() -> HubSimulator:
    hub = HubSimulator()
    hub.approve("digits", 1)
    return hub


def _fetch_from(hub: HubSimulator) -> Fetch:
    async def fetch(name: str, maximum: int) -> FetchedMetadata:
        answer = hub.answer(FetchMetadata(name=name, maximum_bytes=maximum))
        assert isinstance(answer, FetchedMetadata)
        return answer

    return fetch


def _request(hub: HubSimulator, director: bytes) -> VerifyRequest:
    return VerifyRequest(
        device=DEVICE,
        root=hub.store.files["1.root.json"],
        metadata={},
        marks=(),
        now=hub.now.timestamp(),
        director=director,
    )


async def test_an_approved_release_comes_through(hub: HubSimulator) -> None:
    result = await verify(_request(hub, hub.direct(1)), _fetch_from(hub), timeout_seconds=30)
    assert result.refusal is None
    assert [(each.model, each.release) for each in result.assignments] == [("digits", 1)]
    assert "timestamp.json" in result.metadata


async def test_metadata_larger_than_a_message_passes_the_channel_both_ways(hub: HubSimulator) -> None:
    names = tuple(f"file-{number}.bin" for number in range(2_000))
    hub.approve("digits", 2, names)
    assert len(hub.repository.published("digits")) > 256 * 1024
    result = await verify(_request(hub, hub.direct(2)), _fetch_from(hub), timeout_seconds=30)
    assert result.refusal is None
    assert result.metadata["digits.json"] == hub.repository.published("digits")


async def test_without_a_network_nothing_is_taken(hub: HubSimulator) -> None:
    async def offline(name: str, maximum: int) -> FetchedMetadata:
        raise ConnectionError("no route to the hub")

    result = await verify(_request(hub, hub.direct(1)), offline, timeout_seconds=30)
    assert result.refusal is not None
    assert result.refusal.code == "no-network"


async def test_a_root_that_is_none_is_the_child_s_own_refusal(hub: HubSimulator) -> None:
    request = VerifyRequest(device=DEVICE, root=b"{}", metadata={}, marks=(), now=1.0, director=None)
    result = await verify(request, _fetch_from(hub), timeout_seconds=30)
    assert result.refusal is not None
    assert not result.refusal.code.startswith("verifier-")
