import hashlib
from collections.abc import Callable

import httpx
import pytest

from agent.protocol.codec import decode_json, encode_json
from agent.protocol.enrolment import BrokerAddress, EnrolmentRequest, EnrolmentResponse
from agent.transport.errors import EnrolmentError
from agent.transport.http import enrol

ROOT = '{"signed":{}}'
TOKEN = f"ew1.{'s' * 32}.{hashlib.sha256(ROOT.encode()).hexdigest()}"
REQUEST = EnrolmentRequest(token=TOKEN, device="cam-1", hardware_class="x86", csr="csr")
RESPONSE = EnrolmentResponse(
    device="cam-1",
    certificate="c",
    authority="a",
    broker=BrokerAddress(host="h", port=1, tls=False),
    root=ROOT,
    minimum_versions={"timestamp": 3},
)


def hub(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(answer))


def test_asks_as_the_contract_says_and_takes_the_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://hub.example.org/v1/enrol"
        assert decode_json(request.content, EnrolmentRequest) == REQUEST
        return httpx.Response(201, content=encode_json(RESPONSE))

    with hub(answer) as client:
        assert enrol("https://hub.example.org/", REQUEST, client=client) == RESPONSE


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (
            httpx.Response(403, json={"title": "Forbidden", "detail": "the token was used already"}),
            "403: Forbidden: the token was used already",
        ),
        (httpx.Response(502, text="<html>"), "502: Bad Gateway"),
        (httpx.Response(200, text="<html>"), "not an enrolment answer"),
        (
            httpx.Response(200, content=encode_json(RESPONSE).replace(b"signed", b"forged")),
            "the token says .* tampered with",
        ),
        (
            httpx.Response(200, content=encode_json(RESPONSE).replace(b"cam-1", b"cam-2")),
            "for device 'cam-2', not 'cam-1'",
        ),
    ],
)
def test_an_answer_that_can_not_be_trusted_is_refused_in_words(response: httpx.Response, words: str) -> None:
    with hub(lambda _: response) as client, pytest.raises(EnrolmentError, match=words):
        enrol("https://hub.example.org", REQUEST, client=client)


def test_unreachable_is_said() -> None:
    with pytest.raises(EnrolmentError, match="127"):
        enrol("http://127.0.0.1:1", REQUEST)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://hub.example.org", "use https://"),
        ("http://192.168.1.5:8000", "use https://"),
        ("hub.example.org", "is not a hub's address"),
        ("ftp://x", "is not a hub's address"),
    ],
)
def test_a_token_is_not_sent_in_clear_or_nowhere(url: str, words: str) -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request)

    with hub(never) as client, pytest.raises(EnrolmentError, match=words):
        enrol(url, REQUEST, client=client)
