"""What the hub's artifact endpoint says, on the wire: the listener for devices (HTTP/2 and HTTP/1.1) and the API's server."""

import ssl
import time
from collections.abc import Iterator

import httpx
import pytest

from cloud_hub.registry.artifacts import ArtifactStore
from tests.integration.cloud_hub.conftest import until
from tests.integration.downloads.conftest import SIZE, World
from tests.unit.cloud_hub.hub_world import People

BIG = 48 * 1024 * 1024
SERVERS = ("listener, HTTP/2", "listener, HTTP/1.1", "API")


@pytest.fixture(params=SERVERS)
def client(request: pytest.FixtureRequest, world: World) -> Iterator[httpx.Client]:
    """Speaks to the same artifact over each way that there is."""
    url = world.location()
    if request.param == "API":
        url = url.replace(f"https://127.0.0.1:{world.listener}", world.hub.url)
    context = ssl.create_default_context(cafile=str(world.authority))
    with httpx.Client(http2="HTTP/2" in request.param, verify=context, timeout=30) as made:
        made.base_url = httpx.URL(url.partition("?")[0])
        made.params = httpx.QueryParams(url.partition("?")[2])
        yield made


def test_the_whole_file_with_its_digest_as_its_tag(client: httpx.Client, world: World) -> None:
    answer = client.get("")
    assert answer.status_code == 200
    assert answer.content == world.data
    assert answer.headers["etag"] == f'"{world.sha256}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(SIZE)
    assert "content-range" not in answer.headers


def test_head_says_the_same_without_the_bytes(client: httpx.Client, world: World) -> None:
    answer = client.head("", headers={"Range": "bytes=5-9"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["etag"] == f'"{world.sha256}"'


@pytest.mark.parametrize(
    ("wanted", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-", 1000, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes=7-{SIZE * 2}", 7, SIZE),
        ("bytes=-10", SIZE - 10, SIZE),
    ],
)
def test_a_range(client: httpx.Client, world: World, wanted: str, begin: int, end: int) -> None:
    answer = client.get("", headers={"Range": wanted, "If-Range": f'"{world.sha256}"'})
    assert answer.status_code == 206
    assert answer.content == world.data[begin:end]
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - begin)


def test_conditions(client: httpx.Client, world: World) -> None:
    tag = f'"{world.sha256}"'
    other = {"Range": "bytes=5-9", "If-Range": '"another"'}
    assert client.get("", headers=other).status_code == 200
    assert client.get("", headers={"If-None-Match": tag}).status_code == 304
    assert client.get("", headers={"If-Match": tag, "Range": "bytes=0-1"}).status_code == 206
    refused = client.get("", headers={"If-Match": '"another"'})
    assert (refused.status_code, refused.headers["content-type"]) == (412, "application/problem+json")


def test_a_range_that_is_not_there(client: httpx.Client) -> None:
    answer = client.get("", headers={"Range": f"bytes={SIZE}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(SIZE) in answer.json()["detail"]


def get(world: World, url: str, **more: str) -> httpx.Response:
    context = ssl.create_default_context(cafile=str(world.authority))
    return httpx.get(url, verify=context, headers=more, timeout=30)


def test_who_may_not(world: World) -> None:
    expired = get(world, world.location(seconds=-1))
    assert (expired.status_code, expired.json()["status"]) == (410, 410)
    assert get(world, world.location(device="stranger")).status_code == 403
    other = world.location().replace(world.sha256, "ab" * 32)
    assert get(world, other).status_code == 403
    assert get(world, world.location(sha256="ab" * 32)).status_code == 404
    half = world.location().partition("&signature")[0]
    assert get(world, half).status_code == 403


def test_a_device_whose_identity_was_revoked_may_not_any_more(world: World) -> None:
    with httpx.Client(base_url=world.hub.url, timeout=30) as client:
        people = People(client, world.tokens, world.folder / "keys")
        people.enrol("cam-9")
        location = world.location(device="cam-9")
        assert get(world, location, Range="bytes=0-0").status_code == 206
        people.ok("operator", "POST", "/v1/devices/cam-9/revoke", json={"reason": "stolen"})
    refused = get(world, location, Range="bytes=0-0")
    assert refused.status_code == 403
    assert "cam-9" in refused.json()["detail"]


def test_the_listener_serves_signed_artifacts_and_nothing_else(world: World) -> None:
    base = f"https://127.0.0.1:{world.listener}"
    token = {"Authorization": f"Bearer {next(iter(world.tokens.values()))}"}
    assert get(world, f"{base}/v1/artifacts/{world.sha256}", **token).status_code == 403
    for path in ("/", "/health", "/v1/devices", "/schema/openapi.json", "/v1/artifacts/../devices"):
        assert get(world, base + path, **token).status_code == 404, path
    context = ssl.create_default_context(cafile=str(world.authority))
    assert httpx.post(world.location(), verify=context, content=b"x").status_code in {405, 413}


def test_people_still_read_artifacts_with_their_token(world: World) -> None:
    url = f"{world.hub.url}/v1/artifacts/{world.sha256}"
    token = world.tokens["viewer"]
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token}", "Range": "bytes=-3"})
    assert (answer.status_code, answer.content) == (206, world.data[-3:])
    assert httpx.get(url).status_code == 401


@pytest.fixture(scope="module")
def big(world: World) -> str:
    """More than the kernel's buffers hold between a server and a client that does not read."""
    return ArtifactStore(world.paths.artifacts).put(bytes(BIG)).sha256


def test_too_many_at_a_time_are_told_when_to_come_again_and_gone_ones_are_not_counted(
    world: World, big: str
) -> None:
    context = ssl.create_default_context(cafile=str(world.authority))
    with httpx.Client(verify=context, timeout=30) as client:
        open_ones = []
        for _ in range(4):
            request = client.build_request("GET", world.location(sha256=big))
            open_ones.append(client.send(request, stream=True))
        assert [each.status_code for each in open_ones] == [200] * 4
        refused = client.get(world.location())
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert "cam-1 has 4 downloads under way" in refused.json()["detail"]
        for each in open_ones:
            each.close()

    def has_room() -> bool:
        return get(world, world.location(), Range="bytes=0-0").status_code == 206

    until(has_room, "the downloads that were given up are no longer counted")


def test_memory_of_the_hub_is_bounded_however_slowly_somebody_takes(world: World, big: str) -> None:
    """What is not taken stays in the file."""
    import psutil

    assert world.hub._process is not None
    process = psutil.Process(world.hub._process.pid)
    context = ssl.create_default_context(cafile=str(world.authority))
    with httpx.Client(verify=context, timeout=30) as client:
        before = process.memory_info().rss
        url = world.location(sha256=big)
        streams = [client.send(client.build_request("GET", url), stream=True) for _ in range(3)]
        time.sleep(0.5)
        grown = process.memory_info().rss - before
        lengths = [sum(len(part) for part in stream.iter_raw()) for stream in streams]
    assert lengths == [BIG] * 3
    assert grown < BIG / 4, f"{grown} bytes for three downloads that nobody reads"
