"""One answer of several models' answers. Pure: answers in, an answer out."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec

from agent.front.errors import FrontError
from agent.web.messages import Answer, error_answer, json_answer

Answers: TypeAlias = Mapping[str, Answer | FrontError]
"""Model → what it answered, or why it did not."""

Merge: TypeAlias = Callable[[Answers], Answer]

_SHARED_MEMORY = frozenset({"system_shared_memory", "cuda_shared_memory"})


def plain(headers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The headers of a request to every model: their answers are read here, so they must not be compressed."""
    return {name: value for name, value in headers.items() if name != b"accept-encoding"}


def ready(answers: Answers) -> Answer:
    """200 exactly if every model is ready; else 503 and why."""
    reasons = [why for why in (_problem(model, answer) for model, answer in answers.items()) if why]
    if reasons:
        return error_answer("; ".join(reasons), HTTPStatus.SERVICE_UNAVAILABLE)
    if not answers:
        return error_answer("this device has no model yet", HTTPStatus.SERVICE_UNAVAILABLE)
    return Answer(HTTPStatus.OK, [])


def server(answers: Answers) -> Answer:
    """What every model's server says of itself, less what belongs to its own socket."""
    told = [content for content in _contents(answers).values() if isinstance(content, dict)]
    if not told:
        return _nobody(answers)
    lists = [set(each.get("extensions", ())) for each in told]
    common = set.intersection(*lists) - _SHARED_MEMORY
    return json_answer({**told[0], "extensions": sorted(common)})


def statistics(answers: Answers) -> Answer:
    """Every model's statistics in one list; a model that does not answer is left out."""
    contents = _contents(answers)
    if answers and not contents:
        return _nobody(answers)
    return json_answer(
        {"model_stats": [each for content in contents.values() for each in content["model_stats"]]}
    )


def index(answers: Answers) -> Answer:
    """Every model's entry of the repository; one that does not answer is listed as unavailable, and why."""
    entries: list[Any] = []
    for model, answer in answers.items():
        content = _content(answer)
        if content is None:
            reason = _problem(model, answer)
            entries.append({"name": model, "version": "", "state": "UNAVAILABLE", "reason": reason})
        else:
            entries += content
    return json_answer(entries)


def metrics(answers: Answers) -> Answer:
    """Prometheus text: the samples of one metric stand together, under the first model's description of it."""
    families: dict[str, list[str]] = {}
    for answer in answers.values():
        if isinstance(answer, FrontError) or answer.status is not HTTPStatus.OK:
            continue
        family = ""
        for line in b"".join(answer.parts).decode().splitlines():
            words = line.split(maxsplit=3)
            if line.startswith("#") and len(words) > 2:  # noqa: PLR2004 - "# HELP name …"
                family = words[2]
            lines = families.setdefault(family, [])
            if not line.startswith("#") or line not in lines:
                lines.append(line)
    text = "".join(f"{line}\n" for lines in families.values() for line in lines)
    return Answer(HTTPStatus.OK, [text.encode()], b"text/plain; version=0.0.4; charset=utf-8")


def _contents(answers: Answers) -> dict[str, Any]:
    contents = {model: _content(answer) for model, answer in answers.items()}
    return {model: content for model, content in contents.items() if content is not None}


def _content(answer: Answer | FrontError) -> Any | None:
    if isinstance(answer, FrontError) or answer.status is not HTTPStatus.OK:
        return None
    try:
        return msgspec.json.decode(b"".join(answer.parts))
    except msgspec.DecodeError:
        return None


def _problem(model: str, answer: Answer | FrontError) -> str | None:
    if isinstance(answer, FrontError):
        return str(answer)
    if answer.status is HTTPStatus.OK:
        return None
    try:
        told = msgspec.json.decode(b"".join(answer.parts), type=dict[str, str]).get("error", "")
    except msgspec.DecodeError:
        told = ""
    return told or f"model {model!r} answers {answer.status.value}"


def _nobody(answers: Answers) -> Answer:
    return error_answer(
        "; ".join(filter(None, (_problem(model, answer) for model, answer in answers.items())))
        or "this device has no model yet",
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
