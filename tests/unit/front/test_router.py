"""Against real Unix sockets whose server does what a runner does when it leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

import pytest

from agent.front.router import Router
from agent.web.messages import Answer, Pending, Request

Serve = Callable[[Callable[[int, int], bytes | None]], Awaitable[list[bytes]]]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CUT = OK[:-1]
LAST = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Serve ``m.sock``; the function says what request ``r`` of connection ``c`` is answered, None: nothing but the end."""
    servers: list[asyncio.Server] = []

    async def start(answer: Callable[[int, int], bytes | None]) -> list[bytes]:
        heard: list[bytes] = []
        connections = 0

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            number, connections = connections, connections + 1
            for request in range(1000):
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    break
                length = int(head.lower().split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
                heard.append(head + await reader.readexactly(length))
                said = answer(number, request)
                if said is None:
                    break
                writer.write(said)
                if said in {LAST, CUT}:
                    break
            writer.close()
            await writer.wait_closed()

        servers.append(await asyncio.start_unix_server(connected, tmp_path / "m.sock"))
        return heard

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def router(tmp_path: Path, serve: Serve) -> AsyncIterator[Router]:
    router = Router()
    router.serve({"m": str(tmp_path / "m.sock")})
    yield router
    router.serve({})  # closes what is idle
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=5) if others else None
    await asyncio.sleep(0.05)


def request(path: bytes = b"/v2/models/m/infer", body: bytes = b"{}") -> Request:
    headers = {
        b"content-type": b"application/json",
        b"cookie": b"secret",
        b"inference-header-content-length": b"2",
    }
    return Request(b"POST", path, headers, body, 0.0)


async def answered(router: Router, given: Request) -> Answer:
    answer = router.answer(given)
    if isinstance(answer, Answer):
        return answer
    assert isinstance(answer, Pending)
    told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    answer.then(told.set_result)
    return await asyncio.wait_for(told, 20)


async def test_a_connection_is_used_again_and_only_known_headers_are_passed_on(
    router: Router, serve: Serve
) -> None:
    connections: set[int] = set()

    def answer(connection: int, _: int) -> bytes:
        connections.add(connection)
        return OK

    heard = await serve(answer)
    for _ in range(3):
        assert (await answered(router, request())).status is HTTPStatus.OK
    assert connections == {0}
    assert b"inference-header-content-length: 2" in heard[0]
    assert b"edgeward-forwarded: 1" in heard[0]
    assert b"cookie" not in heard[0]


async def test_a_request_that_meets_the_close_of_an_idle_connection_is_sent_again(
    router: Router, serve: Serve
) -> None:
    heard = await serve(lambda connection, number: None if (connection, number) == (0, 1) else OK)
    assert (await answered(router, request())).status is HTTPStatus.OK
    assert (await answered(router, request())).status is HTTPStatus.OK
    assert len(heard) == 3


async def test_a_request_that_ends_its_runner_is_not_sent_to_the_next_one(
    router: Router, serve: Serve
) -> None:
    heard = await serve(lambda connection, number: None)
    answer = await answered(router, request())
    assert answer.status is HTTPStatus.BAD_GATEWAY
    assert b"went away before it had answered" in answer.parts[0]
    assert len(heard) == 1


async def test_an_answer_cut_short_is_not_asked_for_again(router: Router, serve: Serve) -> None:
    heard = await serve(lambda _, number: CUT if number == 1 else OK)
    assert (await answered(router, request())).status is HTTPStatus.OK
    assert (await answered(router, request())).status is HTTPStatus.BAD_GATEWAY
    assert len(heard) == 2


async def test_a_draining_runner_says_close_and_the_next_request_connects_anew(
    router: Router, serve: Serve
) -> None:
    connections: list[int] = []

    def answer(connection: int, _: int) -> bytes:
        connections.append(connection)
        return LAST

    await serve(answer)
    for _ in range(2):
        assert (await answered(router, request())).status is HTTPStatus.OK
    assert connections == [0, 1]


async def test_many_at_once_have_a_connection_each(router: Router, serve: Serve) -> None:
    connections: set[int] = set()

    def answer(connection: int, _: int) -> bytes:
        connections.add(connection)
        return OK

    await serve(answer)
    answers = await asyncio.gather(*(answered(router, request()) for _ in range(20)))
    assert {answer.status for answer in answers} == {HTTPStatus.OK}
    assert len(connections) > 1


async def test_what_is_not_json_or_http_does_not_break_the_front(router: Router, serve: Serve) -> None:
    await serve(lambda connection, _: b"SSH-2.0-OpenSSH\r\n\r\n")
    assert (await answered(router, request())).status is HTTPStatus.BAD_GATEWAY


async def test_a_model_whose_socket_is_not_there(router: Router) -> None:
    answer = await answered(router, request())
    assert (answer.status, answer.parts) == (
        HTTPStatus.SERVICE_UNAVAILABLE,
        [b'{"error":"model \'m\' can\'t be reached: No such file or directory"}'],
    )


async def test_a_large_body_arrives_whole(router: Router, serve: Serve) -> None:
    heard = await serve(lambda connection, _: OK)
    body = bytes(range(256)) * 4096
    assert (await answered(router, request(body=body))).status is HTTPStatus.OK
    assert heard[0].endswith(body)
