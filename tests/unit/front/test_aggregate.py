import json
from http import HTTPStatus

from agent.front import aggregate
from agent.front.errors import FrontError, ModelUnreachableError
from agent.web.messages import Answer, error_answer, json_answer

GONE = ModelUnreachableError("model 'b' can't be reached: Connection refused")


def content(answer: Answer) -> object:
    return json.loads(b"".join(answer.parts))


def good(body: object) -> Answer:
    return json_answer(body)


def test_ready_needs_every_model() -> None:
    fine = Answer(HTTPStatus.OK, [])
    assert aggregate.ready({"a": fine, "b": fine}).status is HTTPStatus.OK
    waiting = error_answer("release 3 is being restarted", HTTPStatus.SERVICE_UNAVAILABLE)
    answer = aggregate.ready({"a": waiting, "b": GONE, "c": fine})
    assert answer.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert content(answer) == {"error": f"release 3 is being restarted; {GONE}"}
    assert aggregate.ready({"a": Answer(HTTPStatus.BAD_GATEWAY, [b"<html>"])}).parts == [
        b'{"error":"model \'a\' answers 502"}'
    ]
    assert aggregate.ready({}).status is HTTPStatus.SERVICE_UNAVAILABLE


def test_the_server_offers_what_every_model_offers_less_shared_memory() -> None:
    one = {"name": "edgeward", "version": "1", "extensions": ["statistics", "system_shared_memory", "extra"]}
    two = {"name": "edgeward", "version": "1", "extensions": ["system_shared_memory", "statistics"]}
    assert content(aggregate.server({"a": good(one), "b": good(two), "c": GONE})) == {
        "name": "edgeward",
        "version": "1",
        "extensions": ["statistics"],
    }
    nobody = aggregate.server({"b": GONE})
    assert (nobody.status, content(nobody)) == (HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(GONE)})
    assert content(aggregate.server({})) == {"error": "this device has no model yet"}


def test_statistics_are_one_list() -> None:
    a, b = {"model_stats": [{"name": "a"}]}, {"model_stats": [{"name": "b"}]}
    answers: dict[str, Answer | FrontError] = {"a": good(a), "b": good(b), "c": GONE}
    assert content(aggregate.statistics(answers)) == {"model_stats": [{"name": "a"}, {"name": "b"}]}
    assert content(aggregate.statistics({})) == {"model_stats": []}
    assert aggregate.statistics({"b": GONE}).status is HTTPStatus.SERVICE_UNAVAILABLE


def test_the_index_lists_what_is_not_there_too() -> None:
    ready = [{"name": "a", "version": "3", "state": "READY", "reason": ""}]
    assert content(aggregate.index({"a": good(ready), "b": GONE})) == [
        *ready,
        {"name": "b", "version": "", "state": "UNAVAILABLE", "reason": str(GONE)},
    ]


def test_samples_of_one_metric_stand_together() -> None:
    def text(model: str, *extra: str) -> Answer:
        lines = [
            "# HELP requests answered",
            "# TYPE requests counter",
            f'requests{{model="{model}"}} 1',
            *extra,
        ]
        return Answer(HTTPStatus.OK, ["".join(f"{line}\n" for line in lines).encode()], b"text/plain")

    more = ("# HELP only here", "# TYPE only gauge", 'only{model="b"} 2')
    merged = aggregate.metrics({"a": text("a"), "b": text("b", *more), "c": GONE})
    assert b"".join(merged.parts).decode().splitlines() == [
        "# HELP requests answered",
        "# TYPE requests counter",
        'requests{model="a"} 1',
        'requests{model="b"} 1',
        *more,
    ]
    assert merged.content_type.startswith(b"text/plain")


def test_answers_that_are_read_here_are_not_asked_for_compressed() -> None:
    headers = {b"accept-encoding": b"gzip", b"content-type": b"application/json"}
    assert aggregate.plain(headers) == {b"content-type": b"application/json"}
