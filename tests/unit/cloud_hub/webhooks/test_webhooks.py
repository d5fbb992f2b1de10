"""Webhooks against a real HTTP server: signed, retried with patience, bounded, never redirected, told once by id."""

import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from cloud_hub.config import parse_config
from cloud_hub.database import Database
from cloud_hub.errors import ConfigError
from cloud_hub.retraining.models import RetrainingRequest
from cloud_hub.retraining.service import get_request, view
from cloud_hub.webhooks import service
from cloud_hub.webhooks.keeper import WebhookKeeper
from cloud_hub.webhooks.sending import LARGEST_ANSWER
from cloud_hub.webhooks.settings import WebhookSettings
from cloud_hub.webhooks.signing import FRESH_SECONDS, is_signed, sign
from tests.unit.cloud_hub.conftest import Clock

SECRET = b"0123456789abcdef0123456789abcdef"


class Receiver(ThreadingHTTPServer):
    """Answers what it is told to, and keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, bytes]] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.location = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        status, answer = self.server.answers.pop(0) if self.server.answers else (200, b"")
        self.send_response(status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's word
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "hub.db")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def settings(tmp_path: Path, receiver: Receiver) -> WebhookSettings:
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    return WebhookSettings(
        urls=(receiver.url,), secret_file=str(tmp_path / "secret"), attempts=4, queue=10, timeout_seconds=5
    )


@pytest.fixture
def keeper(database: Database, settings: WebhookSettings, clock: Clock) -> Iterator[WebhookKeeper]:
    keeper = WebhookKeeper(database, settings, now=clock)
    yield keeper
    keeper.close()


def tell(
    database: Database, settings: WebhookSettings, now: float, data: object = "x", request: int | None = None
) -> None:
    database.write(
        lambda session: service.queue(session, settings, "notice-opened", data, now, request=request)
    )


def outcomes(database: Database) -> list[tuple[str, int]]:
    found = database.read(service.deliveries)
    return sorted((each.outcome, each.attempts) for each in found)


def test_an_event_is_signed_over_its_id_its_time_and_its_body(
    database: Database, settings: WebhookSettings, keeper: WebhookKeeper, receiver: Receiver, clock: Clock
) -> None:
    tell(database, settings, clock.now, {"text": "a device is silent"})
    keeper.step()
    keeper.step()
    ((headers, body),) = receiver.got
    event = json.loads(body)
    assert (event["event"], event["data"]) == ("notice-opened", {"text": "a device is silent"})
    assert headers["Edgeward-Id"] == event["id"]
    given = (headers["Edgeward-Id"], headers["Edgeward-Timestamp"], body, headers["Edgeward-Signature"])
    assert is_signed(SECRET, *given, clock.now)
    assert not is_signed(b"another secret that is long enough!", *given, clock.now)
    assert not is_signed(SECRET, given[0], given[1], body + b" ", given[3], clock.now)
    assert not is_signed(SECRET, "evt_other", *given[1:], clock.now)
    assert not is_signed(SECRET, given[0], str(int(given[1]) + 1), *given[2:], clock.now)
    assert not is_signed(SECRET, *given, clock.now + FRESH_SECONDS + 2)
    assert outcomes(database) == [("delivered", 1)]


def test_it_is_tried_again_with_patience_under_the_same_id_and_then_given_up(
    database: Database, settings: WebhookSettings, keeper: WebhookKeeper, receiver: Receiver, clock: Clock
) -> None:
    receiver.answers = [(500, b"")] * 4
    tell(database, settings, clock.now)
    waits = []
    for _ in range(4):
        start = clock.now
        before = len(receiver.got)
        while len(receiver.got) == before:
            clock.now += 1
            keeper.step()
        waits.append(clock.now - start)
    assert waits == [1, 10, 20, 40]
    clock.now += 1e5
    keeper.step()
    assert len(receiver.got) == 4
    assert len({headers["Edgeward-Id"] for headers, _ in receiver.got}) == 1
    assert outcomes(database) == [("given-up", 4)]
    assert database.read(service.failures) == {"given-up": 1}
    clock.now += service.KEPT_SECONDS
    keeper.step()
    assert outcomes(database) == []


def test_waits_double_up_to_an_hour() -> None:
    assert [service.wait(number) for number in (1, 2, 3, 9, 10, 50, 10_000)] == [
        10,
        20,
        40,
        2560,
        3600,
        3600,
        3600,
    ]


def test_a_redirect_is_not_followed(
    database: Database, settings: WebhookSettings, keeper: WebhookKeeper, receiver: Receiver, clock: Clock
) -> None:
    receiver.location = receiver.url
    receiver.answers = [(307, b"")]
    tell(database, settings, clock.now)
    keeper.step()
    assert len(receiver.got) == 1
    (delivery,) = database.read(service.deliveries)
    assert (delivery.outcome, delivery.status) == ("pending", 307)
    assert "redirects are not followed" in (delivery.error or "")


def test_nobody_there_is_an_attempt_that_failed(
    database: Database, settings: WebhookSettings, clock: Clock
) -> None:
    nowhere = msgspec.structs.replace(settings, urls=("http://127.0.0.1:9/hook",))
    keeper = WebhookKeeper(database, nowhere, now=clock)
    tell(database, nowhere, clock.now)
    keeper.step()
    keeper.close()
    assert outcomes(database) == [("pending", 1)]


def test_the_queue_is_bounded_and_what_it_drops_is_counted(
    database: Database, settings: WebhookSettings, keeper: WebhookKeeper, receiver: Receiver, clock: Clock
) -> None:
    for number in range(13):
        clock.now += 1
        tell(database, settings, clock.now, number)
    assert database.read(service.failures) == {"dropped": 3}
    keeper.step()
    assert [json.loads(body)["data"] for _, body in receiver.got] == list(range(3, 13))


def test_the_queue_outlives_the_hub(
    tmp_path: Path, settings: WebhookSettings, receiver: Receiver, clock: Clock
) -> None:
    first = Database(tmp_path / "two.db")
    first.migrate()
    tell(first, settings, clock.now)
    first.close()
    second = Database(tmp_path / "two.db")
    keeper = WebhookKeeper(second, settings, now=clock)
    keeper.step()
    keeper.close()
    second.close()
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("answer", "by"),
    [
        (b'{"acknowledge": true, "note": "EDGE-12\\nassigned"}', "webhook 127.0.0.1"),
        (b'{"acknowledge": false}', None),
        (b"ok", None),
        (b'{"acknowledge": true, "note": "' + b"x" * LARGEST_ANSWER + b'"}', None),
        (b"[" * 60_000, None),
    ],
)
def test_an_answer_may_acknowledge_a_request(
    database: Database,
    settings: WebhookSettings,
    keeper: WebhookKeeper,
    receiver: Receiver,
    clock: Clock,
    answer: bytes,
    by: str | None,
) -> None:
    row = RetrainingRequest(model="m", release=1, cause="drift", text="", opened=1.0, updated=1.0)
    database.write(lambda session: session.add(row))
    receiver.answers = [(200, answer), (200, answer)]
    for _ in range(2):  # a second one changes nothing
        tell(database, settings, clock.now, request=row.id)
        keeper.step()
    assert outcomes(database) == [("delivered", 1)] * 2
    found = database.read(lambda session: view(session, get_request(session, row.id)))
    assert found.acknowledged_by == by
    if by is not None:
        assert found.note is not None
        assert "\n" not in found.note


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('urls = ["http://example.org/hook"]\nsecret_file = "s"', "https://"),
        ('urls = ["ftp://example.org/hook"]\nsecret_file = "s"', "webhooks.urls"),
        ('urls = ["https://user:word@example.org/"]\nsecret_file = "s"', "webhooks.urls"),
        ('urls = ["https://example.org/hook"]', "secret_file"),
        ("attempts = 0", "attempts"),
    ],
)
def test_wrong_settings_are_refused_in_plain_words(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(f"[webhooks]\n{text}\n")


def test_a_secret_that_is_short_or_absent_is_refused(
    tmp_path: Path, database: Database, settings: WebhookSettings, clock: Clock
) -> None:
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(ConfigError, match="32 are needed"):
        WebhookKeeper(database, settings, now=clock)
    (tmp_path / "secret").unlink()
    with pytest.raises(ConfigError, match="secret_file"):
        WebhookKeeper(database, settings, now=clock)


def test_the_signature_is_what_the_page_says() -> None:
    assert sign(b"k" * 32, "evt_1", 1700000000, b"{}") == (
        "v1=" + hmac.new(b"k" * 32, b"evt_1.1700000000.{}", "sha256").hexdigest()
    )


def _drip(listener: socket.socket, stop: threading.Event) -> None:
    """A header every 0.2 s, so that no single read is slow, and a 200 in the end."""
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for number in range(40):
            if stop.wait(0.2):
                return
            try:
                connection.sendall(b"X-%d: y\r\n" % number)
            except OSError:
                return
        connection.sendall(b"Content-Length: 0\r\n\r\n")


def test_an_attempt_is_over_in_time_and_a_slow_address_holds_up_no_other(
    database: Database, settings: WebhookSettings, receiver: Receiver, clock: Clock
) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_drip, args=(listener, stop))
        thread.start()
        slow = f"http://127.0.0.1:{listener.getsockname()[1]}/hook"
        both = msgspec.structs.replace(settings, urls=(slow, receiver.url), timeout_seconds=1.0)
        for number in range(10):
            tell(database, msgspec.structs.replace(both, queue=100), clock.now, number)
        keeper = WebhookKeeper(database, both, now=clock)
        started = time.monotonic()
        keeper.step()
        took = time.monotonic() - started
        keeper.close()
        stop.set()
        thread.join()
    assert took < 4
    assert [json.loads(body)["data"] for _, body in receiver.got] == list(range(10))
    (tried,) = [each for each in database.read(service.deliveries) if each.url == slow and each.attempts]
    assert (tried.outcome, tried.status) == ("pending", None)
    assert "within 1 s" in (tried.error or "")
